"""demo-report.json: one entry an act, with its evidence."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.errors import UsageProblem
from contract.clock import format_utc


class ActMissing(Exception):
    """Something the act was to show did not happen in time; `str()` says what."""


@dataclass
class Entry:
    """One act: when it began, how long it took (seconds), what proves it, or what was missing."""

    act: str
    title: str
    started_at: str
    seconds: float = 0.0
    evidence: dict[str, Any] = field(default_factory=dict)
    missing: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry as written."""
        found = {"act": self.act, "title": self.title, "ok": self.missing is None, "startedAt": self.started_at}
        found |= {"seconds": round(self.seconds, 2), "evidence": self.evidence}
        return found if self.missing is None else {**found, "missing": self.missing}


class Report:
    """Written at the beginning and anew after every act: a demo that was ended early leaves what it had shown.

    `ok` only once every act has been shown. Raises UsageProblem where the file cannot be written, before anything runs.
    """

    def __init__(self, file: Path, acts: Sequence[str]) -> None:
        self.file = file
        self._acts = acts
        self._entries: list[Entry] = []
        self._begun = time.monotonic()
        try:
            self._write()
        except OSError as error:
            raise UsageProblem(
                f"The report cannot be written to {file}: {error.strerror}. Name another file: --report FILE"
            ) from None

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begun

    @contextmanager
    def entry(self, act: str, title: str) -> Iterator[Entry]:
        """The entry of one act, timed and written when the block ends."""
        entry = Entry(act, title, format_utc(datetime.now(UTC)))
        begun = time.monotonic()
        self._entries.append(entry)
        try:
            yield entry
        except BaseException as error:
            # An act says itself what it missed; anything else is named by its kind.
            entry.missing = str(error) if isinstance(error, ActMissing) else f"interrupted: {type(error).__name__}"
            raise
        finally:
            entry.seconds = time.monotonic() - begun
            self._write()

    def _write(self) -> None:
        shown = [entry.act for entry in self._entries if entry.missing is None]
        body = {
            "ok": shown == list(self._acts),
            "seconds": round(self.seconds, 2),
            "absent": [act for act in self._acts if act not in shown],
            "acts": [entry.as_json() for entry in self._entries],
        }
        self.file.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")

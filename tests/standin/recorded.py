"""Small recordings made up for tests: the shapes that the given ones do not have."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sprite.standin.recording import Recording, read_recording

BEGAN_S = 1_795_334_400


def stamp(after_s: float) -> str:
    """The time in the log, whole seconds after the beginning."""
    return datetime.fromtimestamp(BEGAN_S + int(after_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def active(pid: int, loop: str | None = "demo", pgid: int | None = None) -> str:
    """An active-run.json."""
    content = {"repo": "/srv/sprite/made-up", "pid": pid, "pgid": pgid or pid, "loop_id": loop, "stage": "loop_start"}
    return json.dumps(content, indent=2) + "\n"


def log(*names: str, loop: str = "demo") -> str:
    """An event log with these events."""
    return "".join(json.dumps({"event": name, "loop_id": loop}) + "\n" for name in names)


def make_recording(
    folder: Path, steps: Sequence[tuple[float, Mapping[str, str | None]]], commands: Sequence[tuple[float, str]] = ()
) -> Recording:
    """Write a recording and read it.

    Args:
        folder: where.
        steps: seconds after the beginning, and the files that changed (None: deleted).
        commands: seconds and text of commands.log; text that does not begin with `$` is a comment. An exit code may
            follow after ` -> `.
    """
    folder.mkdir(parents=True)
    files: dict[str, str] = {}
    index: list[dict[str, Any]] = []
    for number, (after_s, changes) in enumerate(steps, 1):
        files |= {path: content for path, content in changes.items() if content is not None}
        files = {path: content for path, content in files.items() if changes.get(path, "") is not None}
        root = folder / f"step-{number:04d}" / ".superloop"
        root.mkdir(parents=True)
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content, "utf-8")
        index.append({"step": number, "capturedEpoch": BEGAN_S + after_s})
    (folder / "steps.ndjson").write_text("".join(json.dumps(entry) + "\n" for entry in index), "utf-8")
    lines = []
    for after_s, text in commands:
        kind, text = ("$", text[2:]) if text.startswith("$ ") else ("#", text)
        text, _, code = text.partition(" -> ")
        lines.append(f"{kind} {stamp(after_s)} {text}\n" + (f"  -> exit {code}\n" if code else ""))
    (folder / "commands.log").write_text("".join(lines), "utf-8")
    return read_recording(folder)


RUN = "$ superloop.sh run --repo /srv/sprite/made-up --loop demo"
EVENTS = "loops/demo/events.jsonl"

"""What the service counts about itself, told in Prometheus' text format."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts since the start of the service, and what is going on now. For the event loop's thread only.

    Label values are route templates, statuses, intents and outcomes: a fixed few, never what a client sent.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._control: Counter[tuple[str, str, str]] = Counter()
        self._in_progress = 0
        self._long_polls = 0

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A request is in progress."""
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1

    @contextlib.contextmanager
    def long_poll(self) -> Iterator[None]:
        """A request waits for news."""
        self._long_polls += 1
        try:
            yield
        finally:
            self._long_polls -= 1

    def answered(self, route: str, status: int | None) -> None:
        """A request has been answered; `status` is None when its connection broke."""
        self._requests[route, str(status or "none")] += 1

    def controlled(self, intent: str, outcome: str, *, replayed: bool = False) -> None:
        """A control request has been answered; `outcome` is a result's status or an error code."""
        self._control[intent, outcome, str(replayed).lower()] += 1

    def text(self, connections: int) -> str:
        """All of it, and how many connections are open."""
        lines = [
            *_family("counter", "sprite_http_requests_total", "Requests answered.", self._requests, "route", "status"),
            *_family(
                "counter",
                "sprite_control_requests_total",
                "Control requests by what was answered: the status of the result, or the code of the refusal.",
                self._control,
                "intent",
                "outcome",
                "replayed",
            ),
            *_family(
                "gauge", "sprite_http_requests_in_progress", "Requests not answered yet.", {(): self._in_progress}
            ),
            *_family("gauge", "sprite_http_long_polls", "Requests that wait for news.", {(): self._long_polls}),
            *_family("gauge", "sprite_http_connections", "Open connections.", {(): connections}),
        ]
        return "".join(f"{line}\n" for line in lines)


def _family(kind: str, name: str, text: str, values: Mapping[Any, int], *labels: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for key, value in sorted(values.items()):
        told = ",".join(f'{label}="{word}"' for label, word in zip(labels, key, strict=True))
        yield f"{name}{{{told}}} {value}" if told else f"{name} {value}"

"""The chart of a report: bars and points on lanes, made of a timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from contract.reports import Report
from incidents.entries import Entry
from incidents.told import LATE_FROM_S, lasting

LANES = ("runtime", "seen late", "blind", "transport", "lifecycle", "needs a human", "messages", "divergence")
_RUNTIME, _LATE, _BLIND, _TRANSPORT, _LIFECYCLE, _HUMAN, _MESSAGES, _DIVERGENCE = range(len(LANES))


class Bar(Report):
    """Something that lasted. `tone` is a colour by meaning; `entry` the index of the entry that tells of it."""

    lane: int
    start: float
    end: float
    label: str
    tone: str
    entry: int | None = None


class Point(Report):
    """Something that happened at an instant."""

    lane: int
    at: float
    tone: str
    entry: int


def _ms(at: datetime) -> float:
    return round(at.timestamp() * 1000)


def bars(entries: Sequence[Entry]) -> list[Bar]:
    """Every bar, those that lie on top last."""
    if not entries:
        return []
    end = max(entry.ends_at or entry.at for entry in entries)
    found = [*_late(entries)]
    for kind, lane in (("transport", _TRANSPORT), ("lifecycle", _LIFECYCLE)):
        found += _following(entries, kind, lane, end)
    found += _conditions(entries, end)
    found += _messages(entries)
    for index, entry in enumerate(entries):
        if entry.kind == "blind":
            until = entry.ends_at or end
            label = lasting((until - entry.at).total_seconds())
            found.append(Bar(lane=_BLIND, start=_ms(entry.at), end=_ms(until), label=label, tone="bad", entry=index))
    return found


def points(entries: Sequence[Entry]) -> list[Point]:
    """Every event of the runtime and every stage of a message."""
    found = []
    for index, entry in enumerate(entries):
        if entry.kind == "event":
            late = entry.known_at is None or (entry.delay_s or 0.0) >= LATE_FROM_S
            tone = "bad" if entry.known_at is None else "warn" if late else "plain"
            found.append(Point(lane=_RUNTIME, at=_ms(entry.at), tone=tone, entry=index))
        elif entry.kind == "intent":
            found.append(Point(lane=_MESSAGES, at=_ms(entry.at), tone=_tone(entry.what), entry=index))
    return found


def _late(entries: Sequence[Entry]) -> Iterator[Bar]:
    """Events that one observation brought late are one bar, from the first of them to when they were known."""
    brought: dict[datetime, list[int]] = {}
    for index, entry in enumerate(entries):
        if entry.kind == "event" and entry.known_at and (entry.delay_s or 0.0) >= LATE_FROM_S:
            brought.setdefault(entry.known_at, []).append(index)
    for known_at, indexes in brought.items():
        first = entries[indexes[0]]
        events = "1 event" if len(indexes) == 1 else f"{len(indexes)} events"
        label = f"{events}, up to {lasting(first.delay_s or 0.0)} late"
        yield Bar(
            lane=_LATE, start=_ms(first.at), end=_ms(known_at), label=label, tone="warn", entry=indexes[0]
        )  # fmt: skip


def _following(entries: Sequence[Entry], kind: str, lane: int, end: datetime) -> Iterator[Bar]:
    told = [(index, entry) for index, entry in enumerate(entries) if entry.kind == kind]
    if not told:
        return
    ends = [following.at for _, (_, following) in pairwise(told)]
    for (index, entry), until in zip(told, [*ends, end], strict=True):
        label = entry.what.removeprefix("turned to the ")
        yield Bar(lane=lane, start=_ms(entry.at), end=_ms(until), label=label, tone=_tone(label), entry=index)


def _conditions(entries: Sequence[Entry], end: datetime) -> Iterator[Bar]:
    """From the opening of each condition and divergence to its end, or to that of the record."""
    opened: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.kind not in ("attention", "divergence"):
            continue
        name = entry.key or entry.what.removesuffix(" closed")
        if entry.what.startswith("over: ") or entry.what.endswith(" closed"):
            began = opened.pop(name, None)
            if began is not None:
                yield _condition(entries[began], began, entry.at)
        else:
            opened[name] = index
    for began in opened.values():
        yield _condition(entries[began], began, end)


def _condition(entry: Entry, index: int, until: datetime) -> Bar:
    lane = _HUMAN if entry.kind == "attention" else _DIVERGENCE
    label = entry.what.removeprefix("a human is needed: ").removeprefix("divergence ")
    tone = _tone(label) if entry.kind == "attention" else "bad"
    return Bar(lane=lane, start=_ms(entry.at), end=_ms(until), label=label, tone=tone, entry=index)


def _messages(entries: Sequence[Entry]) -> Iterator[Bar]:
    stages: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        if entry.kind == "intent" and entry.key:
            stages.setdefault(entry.key, []).append(index)
    for indexes in stages.values():
        first, last = entries[indexes[0]], entries[indexes[-1]]
        label = f"{last.by}: {last.what}"
        yield Bar(
            lane=_MESSAGES, start=_ms(first.at), end=_ms(last.at), label=label, tone=_tone(last.what), entry=indexes[-1]
        )  # fmt: skip


_TONES = {
    "bad": ("failed", "blind", "ambiguous", "diverged", "crashed", "wrong sprite", "unauthorized"),
    "warn": (
        "local",
        "stopped",
        "rejected",
        "expired",
        "stale",
        "waiting",
        "not resumed",
        "missing",
        "sprite error",
        "down",
    ),
    "good": ("complete", "confirmed", "sprite service", "recorded"),
    "busy": ("running", "starting", "executing", "accepted", "decided"),
}


def _tone(text: str) -> str:
    return next((tone for tone, words in _TONES.items() if any(word in text for word in words)), "plain")

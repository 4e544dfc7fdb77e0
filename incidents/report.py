"""One page that shows an incident: a summary, a chart on one time axis, and the evidence behind everything in it.

The page needs nothing but itself: no network, no other file. Text of operators and agents is text in it, wherever it
stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from incidents import lanes, told
from incidents.entries import Entry
from incidents.summary import Summary, clock, summarize
from incidents.timeline import Timeline, Told, timeline

MOST_ROWS = 300
"""Of the table that is printed; the whole list is below it, for the screen."""
_MARGIN = 0.02
_NAMES = {
    "when": "when",
    "ends": "until",
    "delay": "known after",
    "kind": "kind",
    "what": "what",
    "who": "who",
    "why": "why",
    "clock": "clock",
    "known": "known at",
    "place": "in workflow history",
    "line": "line of the log",
    "key": "idempotency key",
}


def html(source: Told) -> str:
    """The page."""
    whole = timeline(source)
    summary = _upright(summarize(source, whole))
    shown = [entry for entry in whole.entries if entry.kind not in ("event", "observation")]
    return (
        _environment()
        .from_string(_asset("report.html.j2"))
        .render(
            summary=summary,
            sections=sections(summary),
            rows=[{**_row(entry), "place": _short(entry, source)} for entry in shown[:MOST_ROWS]],
            left_out=max(0, len(shown) - MOST_ROWS),
            data=_data(whole),
            footer=told.upright(_footer(source)),
            # The template takes these as they are: they are ours and the library's own.
            style=_asset("report.css"),
            script=_asset("report.js"),
            echarts=_asset("echarts.min.js"),
        )
    )


def _upright(summary: Summary) -> Summary:
    return Summary.model_validate_json(told.upright(summary.model_dump_json()))


def markdown(source: Told) -> str:
    """The same for a ticket: summary and the entries behind it, without the runtime's events."""
    whole = timeline(source)
    summary = summarize(source, whole)
    lines = [f"# Incident {told.escape(summary.title)}", "", told.escape(summary.outcome), "", summary.span, ""]
    for heading, sentences, none in sections(summary):
        lines += [f"## {heading}", "", *(f"- {told.escape(sentence)}" for sentence in sentences or [none]), ""]
    kept = [entry for entry in whole.entries if entry.kind not in ("event", "observation")]
    shown = whole.model_copy(update={"entries": kept})
    return "\n".join([*lines, *told.markdown(shown), "", told.escape(_footer(source)), ""])


def sections(summary: Summary) -> Iterator[tuple[str, list[str], str]]:
    """Headings, what they say, and what is said where there is nothing."""
    yield "What happened", summary.happened, "The lifecycle of the loop did not change."
    yield "What nobody could see", summary.blind, "While it was supervised, the loop could always be seen."
    yield "What people did", summary.people, "Nobody sent anything."
    yield "What is still open", summary.still_open, "Nothing is open."
    yield "How good the evidence is", summary.evidence, "Nothing was compared."


def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def _asset(name: str) -> str:
    return files("incidents").joinpath("assets", name).read_text(encoding="utf-8")


def _footer(source: Told) -> str:
    manifest = source.incident.manifest
    versions = ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
    runs = ", ".join(f"run {number} is {entry.run_id}" for number, entry in enumerate(manifest.runs, 1))
    return f"{manifest.workflow_id}, exported {clock(manifest.made_at)} ({versions}); of its workflow runs, {runs}"


def _data(whole: Timeline) -> dict[str, Any]:
    start, end = _span(whole.entries)
    return {
        "names": _NAMES,
        "lanes": list(lanes.LANES),
        "start": start,
        "end": end,
        "entries": [_row(entry) for entry in whole.entries],
        "bars": [bar.model_dump(mode="json") for bar in lanes.bars(whole.entries)],
        "points": [point.model_dump(mode="json") for point in lanes.points(whole.entries)],
    }


def _span(entries: Sequence[Entry]) -> tuple[float, float]:
    if not entries:
        return 0.0, 1.0
    first, last = entries[0].at, max(entry.ends_at or entry.at for entry in entries)
    margin = max((last - first) * _MARGIN, timedelta(seconds=1))
    return (first - margin).timestamp() * 1000, (last + margin).timestamp() * 1000


def _row(entry: Entry) -> dict[str, Any]:
    """An entry as the page shows it; what is empty is left out of a click's answer."""
    return {
        "when": told.when(entry.at),
        "ends": told.when(entry.ends_at) if entry.ends_at else "",
        "delay": told.delay(entry),
        "kind": entry.kind,
        "what": told.upright(entry.what),
        "who": told.upright(told.who(entry)),
        "why": told.upright(entry.why),
        "clock": f"the {entry.clock}'s",
        "known": _exactly(entry.known_at),
        "place": f"run {entry.run_id} event {entry.event_id}" if entry.event_id else "",
        "line": entry.line,
        "key": told.upright(entry.key) if entry.key else None,
    }


def _short(entry: Entry, source: Told) -> str:
    """Where it is written, as one reads it in a narrow column: runs by their number, which the footer explains."""
    numbers = {run.run_id: number for number, run in enumerate(source.incident.manifest.runs, 1)}
    return f"run {numbers.get(entry.run_id or '', '?')}, event {entry.event_id}" if entry.event_id else ""


def _exactly(at: datetime | None) -> str:
    return told.when(at) if at else ""

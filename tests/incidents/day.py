"""A day with thousands of events, made of a kept history: its first observation brings them all."""

from datetime import UTC, datetime, timedelta

from temporalio.client import WorkflowHistory

from contract.chain import line_hash
from contract.observation import CursorPosition, EventDigest, Observation
from incidents.archive import Incident
from incidents.history import Run
from incidents.log import EventLog, LoggedLine
from tests.incidents.kept import kept_incident, kept_runs

NASTY = "</script><img src=x onerror=alert(1)> \u2028\u2029 {{ 7*7 }} ]]> & \"quoted\" 'so' | **bold** \x1b[31m"
_FIRST_OBSERVATION = 11
_ROUND = ("iteration_start", "role_start", "role_end", "tests_start", "tests_end", "gates_evaluated", "iteration_end")


def day(events: int = 5_000) -> Incident:
    """An incident of 24 hours with so many events, whose messages are what an agent might write at its worst."""
    (whole,) = kept_runs("approve-consume")
    run = Run(whole.workflow_id, WorkflowHistory(whole.workflow_id, list(whole.events[:_FIRST_OBSERVATION])))
    (result,) = [event for event in run.events if event.HasField("activity_task_completed_event_attributes")]
    payload = result.activity_task_completed_event_attributes.result.payloads[0]
    lines = _lines(events, run.last_at)
    seen = Observation.model_validate_json(payload.data)
    seen.events, seen.cursor = _digests(lines), CursorPosition(line=events, chain=_log(lines).chain_at(events))
    if seen.snapshot is not None:
        seen.snapshot.event_count = events
    payload.data = seen.model_dump_json().encode()
    incident = kept_incident(_log(lines))
    return Incident(incident.manifest, [run], incident.log)


def _lines(count: int, end: datetime) -> list[LoggedLine]:
    names = ["loop_start", *(_ROUND[number % len(_ROUND)] for number in range(count - 2)), "loop_complete"]
    began = end - timedelta(days=1)
    run_id = began.strftime("%Y-%m-%dT%H:%M:%SZ")
    step = timedelta(days=1) / count
    return [
        LoggedLine(
            line=number,
            raw={
                "timestamp": (began + number * step).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "event": name,
                "loop_id": "demo",
                "run_id": run_id,
                "iteration": 1 + number // len(_ROUND),
                "message": NASTY,
            },
        )
        for number, name in enumerate(names, 1)
    ]


def _digests(lines: list[LoggedLine]) -> list[EventDigest]:
    return [
        EventDigest(
            line=line.line,
            h=line_hash(line.raw).hex()[:16],
            name=line.name,
            timestamp=line.raw["timestamp"],
            run_id=line.raw["run_id"],
            iteration=line.raw["iteration"],
            message=line.raw["message"],
        )
        for line in lines
        if line.raw is not None
    ]


def _log(lines: list[LoggedLine]) -> EventLog:
    return EventLog(transport="local", read_at=datetime(2026, 11, 26, tzinfo=UTC), line_count=len(lines), lines=lines)

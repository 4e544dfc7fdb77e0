"""`ops-manager incident replay`: what `status` would have answered at an instant, and what was true then."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from cli import terminal
from cli.errors import NotFound, UsageProblem
from cli.exit_codes import ExitCode
from cli.incident_sources import load
from cli.moments import MOMENT
from cli.render import report_json, status_card
from cli.session import Connection, connection_options
from cli.times import full_moment
from incidents.archive import Incident
from incidents.fold import Epoch, fold
from incidents.history import Run, chains
from incidents.knowledge import Knowledge, KnownEvent, knowledge_at
from incidents.states import Replay, State, replay_runs

_SHOWN = 12


@dataclass(frozen=True)
class _When:
    at: datetime | None
    event: int | None
    run_id: str | None
    key: str | None


@click.command()
@click.argument("archive")
@click.option("--at", type=MOMENT, help="As of this time (UTC).")
@click.option("--event", type=click.IntRange(min=1), help="As of this event of the workflow history.")
@click.option("--run", "run_id", metavar="ID", help="The workflow run that --event is of; default: the newest.")
@click.option("--until", "key", metavar="KEY", help="When the intent of this idempotency key had just been decided.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connection_options
def replay(
    connection: Connection, archive: str, at: datetime | None, event: int | None, run_id: str | None, key: str | None,
    output: str,
) -> int:  # fmt: skip
    """Show what was believed at an instant (by default at the end), and which events had happened unnoticed.

    ARCHIVE is a file of `incident export`, which needs no server, or a LOOP. The supervisor's own code is run again
    over its histories; where it makes other commands than those recorded, that is said, and the exit code is 5.
    """
    if sum(choice is not None for choice in (at, event, key)) > 1:
        raise UsageProblem("--at, --event and --until exclude each other")
    if run_id is not None and event is None:
        raise UsageProblem("--run says of which run --event is")
    incident = load(connection, archive)
    replayed = asyncio.run(replay_runs(incident.runs))
    state = _chosen(replayed, _When(at, event, run_id, key))
    then = at or state.at
    knowledge = knowledge_at(then, _epoch(incident, state), incident.log, _chain(incident, state))
    beyond = _beyond(incident, state, then, replayed)
    if output == "json":
        told = {**_as_json(state, then, knowledge, replayed), "beyondTheRecord": beyond}
        terminal.data(json.dumps(told, indent=2))
    else:
        _show(state, then, knowledge, replayed, incident, beyond)
    return ExitCode.DIFFERENT if replayed.failures else ExitCode.DONE


def _chosen(replayed: Replay, when: _When) -> State:
    if when.at is not None:
        state, what = replayed.at(when.at), f"at {full_moment(when.at)}"
    elif when.event is not None:
        state, what = replayed.at_event(when.event, when.run_id), f"at event {when.event} of that run"
    elif when.key is not None:
        state, what = replayed.when_decided(when.key), f"about a key {when.key!r}"
    else:
        state, what = (replayed.states[-1] if replayed.states else None), "at all"
    if state is None:
        first = f"; the first state is of {full_moment(replayed.states[0].at)}" if replayed.states else ""
        raise NotFound(f"These histories know of nothing {what}{first}")
    return state


def _chain(incident: Incident, state: State) -> list[Run]:
    return next(chain for chain in chains(incident.runs) if any(run.run_id == state.run_id for run in chain))


def _epoch(incident: Incident, state: State) -> Epoch:
    epochs = fold(_chain(incident, state)).epochs
    return next((epoch for epoch in epochs if epoch.number == state.report.cursor.epoch), epochs[-1])


def _beyond(incident: Incident, state: State, at: datetime, replayed: Replay) -> str:
    """What has to be known of an instant for which there is no state; empty where there is one."""
    run = next(run for run in incident.runs if run.run_id == state.run_id)
    end = full_moment(run.last_at)
    last_known = next(known for known in reversed(replayed.states) if known.run_id == state.run_id)
    if run.run_id in replayed.failures and at > last_known.at:
        return f"What was believed after {full_moment(last_known.at)} is not known: this version does not replay it."
    if at <= run.last_at:
        return ""
    if run.ending is None:
        return f"The record ends at {end}: what was believed after that is not in it."
    if run.ending != "continued_as_new":
        return f"Supervision had ended at {end} ({run.ending.replace('_', ' ')}): this is what was believed last."
    if any(other.continued_from == run.run_id for other in incident.runs):
        return ""
    return f"What was believed after {end} is in a run that is not at hand: this is what was believed before."


def _as_json(state: State, at: datetime, knowledge: Knowledge, replayed: Replay) -> dict[str, Any]:
    return {
        "at": at.isoformat(),
        "stateSince": state.at.isoformat(),
        "status": report_json(state.report),
        "knowledge": knowledge.model_dump(mode="json", by_alias=True),
        "doNotReplay": replayed.failures,
    }


def _show(state: State, at: datetime, knowledge: Knowledge, replayed: Replay, incident: Incident, beyond: str) -> None:
    terminal.data(f"{'as of':<12}{full_moment(at)}, run {state.run_id} event {state.event_id}")
    terminal.show(status_card(state.report, None, at))
    if len(knowledge.unknown) > _SHOWN:
        terminal.data(f"{'unknown':<12}{len(knowledge.unknown)} events that had happened, the last of them:")
    for event in knowledge.unknown[-_SHOWN:]:
        terminal.data(f"{'unknown':<12}{_told(event)}")
    if not knowledge.unknown and not beyond:
        terminal.data(f"{'unknown':<12}nothing: every event that had happened was known")
    for event in knowledge.latest[:1]:
        terminal.data(f"{'seen latest':<12}{_told(event)}")
    if knowledge.clocks.sentence:
        terminal.warn(knowledge.clocks.sentence)
    if beyond:
        terminal.warn(beyond)
    if incident.log is None:
        terminal.say("Without the event log, what nobody observed later is not known here.")
    for run_id, failure in replayed.failures.items():
        terminal.warn(f"Run {run_id} does not replay with this version: {terminal.clean(failure)}")


def _told(event: KnownEvent) -> str:
    role = f" {event.role}" if event.role else ""
    seen = "never seen" if event.late_s is None else f"seen {event.late_s:.0f} s later"
    return terminal.clean(f"line {event.line} {event.name}{role} of {full_moment(event.happened_at)}, {seen}")

"""`incident timeline`: everything that is in the histories, once, with how late it was known and who sent it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from contract.observation import Observation
from contract.status import AsOf, IntentStage, Lifecycle, StatusReport, Transition, TransportReport
from incidents import changes
from incidents.archive import Incident, read, write
from incidents.fold import observations
from incidents.knowledge import Clocks
from incidents.log import EventLog, LoggedLine
from incidents.states import State
from incidents.timeline import Timeline, Told, timeline
from tests.cli.ops import Ops
from tests.harness import FAST, Supervisors
from tests.harness_sprite import WAITING, Sprite, until
from tests.incidents.kept import kept_incident, kept_runs
from tests.incidents.scenes import LONG_STORY, chain_of_runs


async def _timeline(incident: Incident) -> Timeline:
    return timeline(await Told.of(incident))


async def _exported(ops: Ops, name: str, path: Path) -> Incident:
    done = await ops("incident", "export", f"{name}/demo", "-o", str(path))
    assert done.code == 0, done
    return read(path)


@pytest.mark.parametrize("outage_s", [10.0, pytest.param(40.0, marks=[pytest.mark.slow, pytest.mark.timeout(180)])])
async def test_events_of_an_outage_are_as_late_as_it_was_long_and_its_span_is_marked_blind(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path, outage_s: float
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.serve()
    loop = await supervise(sprite, options=FAST)
    await loop.until(lambda seen: seen.observed_at, "looked at")
    sprite.stop_service()
    stopped = datetime.now(UTC)
    sprite.run().wait()
    written = datetime.now(UTC)
    lines = len(sprite.events())
    back_at = stopped + timedelta(seconds=outage_s)
    await until(lambda: datetime.now(UTC) >= back_at, "the outage is over", timeout_s=outage_s + 30)
    sprite.serve()
    back = datetime.now(UTC)
    await loop.until_lifecycle("awaiting_approval", timeout_s=90)

    found = await _timeline(await _exported(ops, name, tmp_path / "incident.zip"))
    events = [entry for entry in found.entries if entry.kind == "event"]
    assert [entry.line for entry in events] == list(range(1, lines + 1))
    seen_at = {entry.known_at for entry in events}
    assert len(seen_at) == 1
    (known_at,) = seen_at
    assert known_at is not None
    # How late the service was taken up again is the machine's pace; what is said of it has to be exact.
    for entry in events:
        assert entry.delay_s is not None
        assert entry.delay_s == (known_at - entry.at).total_seconds()
        assert (back - written).total_seconds() <= entry.delay_s <= (known_at - stopped).total_seconds() + 1.0
    assert abs((events[0].delay_s or 0.0) - (known_at - stopped).total_seconds()) <= 2.0
    (blind,) = [entry for entry in found.entries if entry.kind == "blind"]
    assert blind.ends_at is not None
    assert abs((blind.at - stopped).total_seconds()) <= 2.0
    assert abs((blind.ends_at - known_at).total_seconds()) <= 2.0
    assert "cannot connect" in blind.why


async def test_timeline_agrees_with_the_histories_event_by_event(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    await chain_of_runs(supervise, new_sprite(name, LONG_STORY))
    incident = await _exported(ops, name, tmp_path / "incident.zip")
    await _check_event_by_event(incident)


async def test_timeline_of_a_kept_chain_agrees_with_it_event_by_event() -> None:
    await _check_event_by_event(kept_incident())


async def _check_event_by_event(incident: Incident) -> None:
    found = await _timeline(incident)
    told = {
        (seen.run_id, seen.event_id, event.line): event
        for run in incident.runs
        for seen, counts in observations(run)
        if counts
        for event in seen.observation.events
    }
    entries = {
        (entry.run_id or "", entry.event_id or 0, entry.line or 0): entry
        for entry in found.entries
        if entry.kind == "event"
    }
    assert set(entries) <= set(told)
    assert sorted(line for _, _, line in entries) == sorted({line for _, _, line in told})
    for key, entry in entries.items():
        assert told[key].name in entry.what
        assert entry.at.strftime("%Y-%m-%dT%H:%M:%SZ") == told[key].timestamp

    signals = {
        (run.run_id, event.event_id): event.workflow_execution_signaled_event_attributes
        for run in incident.runs
        for event in run.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    }
    received = {(entry.run_id, entry.event_id): entry for entry in found.entries if entry.what.endswith(" received")}
    assert set(received) == set(signals)
    for place, signal in signals.items():
        assert received[place].what == f"{signal.signal_name} received"
        assert received[place].sender == signal.identity

    changes = [entry.what.partition(" (")[0] for entry in found.entries if entry.kind == "lifecycle"]
    assert changes[-1] == "complete"
    assert [entry.at for entry in found.entries] == sorted(entry.at for entry in found.entries)


async def test_sender_as_temporal_saw_it_stands_beside_the_name_that_was_given(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.run().wait()
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    await loop.send_by_cli("APPROVE_PENDING", "--input", '{"by":"ana"}', "--identity", "temporal-cli:bo@laptop")
    await loop.until_intent(IntentStage.RECORDED)
    await loop.handle.execute_update("REJECT_PENDING", {"by": "cem"})
    await loop.send_by_cli("TYPO", "--input", "{}", "--identity", "temporal-cli:dora@vm")
    await loop.until(lambda seen: len(seen.intents) == 3, "all three are recorded")
    found = await _timeline(await _exported(ops, name, tmp_path / "incident.zip"))
    received = [(entry.what, entry.by, entry.sender) for entry in found.entries if entry.what.endswith(" received")]
    assert received == [
        ("APPROVE_PENDING received", "ana", "temporal-cli:bo@laptop"),
        ("REJECT_PENDING received", "cem", loop.house.client.identity),
        ("TYPO received", "unknown", "temporal-cli:dora@vm"),
    ]


async def test_clock_of_the_sprite_that_goes_wrong_is_told() -> None:
    (run,) = kept_runs("approve-consume")
    for event in run.events:
        attributes = event.activity_task_completed_event_attributes
        for payload in attributes.result.payloads if event.HasField("activity_task_completed_event_attributes") else []:
            if b"emitted_at" not in payload.data:
                continue
            told = Observation.model_validate_json(payload.data)
            told.contact_at -= timedelta(seconds=90)
            payload.data = told.model_dump_json().encode()
    incident = kept_incident(names=("approve-consume",))
    found = await _timeline(Incident(incident.manifest, [run]))
    assert found.clocks.ahead_s == pytest.approx(90, abs=2)
    assert "about 9" in found.clocks.sentence
    assert "ahead of" in found.clocks.sentence
    assert Clocks(ahead_s=1.0).sentence == ""


async def test_event_that_nobody_has_observed_is_told_from_the_log() -> None:
    whole = await _timeline(kept_incident())
    head = max(entry.line or 0 for entry in whole.entries if entry.kind == "event")
    raw = {"event": "loop_start", "timestamp": "2036-11-23T00:00:00Z"}
    log = EventLog(
        transport="local",
        read_at=datetime(2026, 11, 26, tzinfo=UTC),
        line_count=head + 1,
        lines=[LoggedLine(line=head + 1, raw=raw)],
    )
    last = (await _timeline(kept_incident(log))).entries[-1]
    assert (last.line, last.known_at, last.delay_s) == (head + 1, None, None)


async def test_text_of_others_neither_moves_the_cursor_nor_breaks_the_table(tmp_path: Path) -> None:
    path = tmp_path / "kept.zip"
    write(kept_incident(), path)
    ops = Ops({})
    text = await ops("incident", "timeline", str(path))
    table = await ops("incident", "timeline", str(path), "-o", "markdown")
    assert text.code == table.code == 0
    assert all(line.isprintable() for line in text.out.splitlines())
    rows = [line for line in table.out.splitlines() if line.startswith("| 2026")]
    assert len(rows) == len(text.out.splitlines())
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
    as_json = json.loads((await ops("incident", "timeline", str(path), "-o", "json")).out)
    assert len(as_json["entries"]) > len(rows)
    assert as_json["doNotReplay"] == {}


async def test_every_condition_is_told_when_it_opened_and_when_it_was_over() -> None:
    found = [entry for entry in (await _timeline(kept_incident())).entries if entry.kind == "attention"]
    told = [entry.what for entry in found]
    assert told[0] == "a human is needed: approval waiting"
    for kind in ("approval waiting", "approved not resumed"):
        opened, over = told.index(f"a human is needed: {kind}"), told.index(f"over: {kind}")
        assert opened < over
        assert found[opened].key == found[over].key


def test_change_that_was_seen_does_not_come_after_the_event_that_followed_it_within_the_second() -> None:
    seen = datetime(2026, 11, 22, 3, 12, 7, 700_000, tzinfo=UTC)
    transport = TransportReport(state="sprite_service")
    report = StatusReport(
        sprite="acme",
        loop_id="demo",
        lifecycle=Lifecycle.UNKNOWN,
        reason="",
        transport=transport,
        as_of=AsOf(run_id="r", history_length=3),
    )
    first = report.model_copy(
        update={"transitions": [Transition(lifecycle=Lifecycle.NOT_STARTED, reason="none", at=seen)]}
    )
    started = Transition(lifecycle=Lifecycle.STARTING, reason="loop_start", at=seen.replace(microsecond=0), line=1)
    second = report.model_copy(update={"transitions": [*first.transitions, started]})
    states = [State("r", 3, seen, first), State("r", 9, seen + timedelta(seconds=1), second)]
    told = [entry for entry in changes.entries(states, []) if entry.kind == "lifecycle"]
    assert [entry.at for entry in told] == [seen.replace(microsecond=0)] * 2
    assert [entry.what for entry in told] == ["not started (none)", "starting (loop_start)"]

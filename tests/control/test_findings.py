"""What became of a command that nobody saw end, as tables over every point between two writes (D12)."""

from typing import Any

import pytest

from contract.intents import Intent
from sprite.control.evidence import Baseline, RunRef
from sprite.control.findings import (
    Decision,
    Effect,
    Request,
    decisions_in_events,
    decisions_in_record,
    find_cancel,
    find_decision,
    was_taken_up,
)
from sprite.control.situation import ActivePid, Situation
from sprite.processes import LoopRun

BEFORE = Baseline(line=7, run_id="R1", iteration=3, requested_at="T1", approval_sha256="aa", at="2026-11-22T08:00:05Z")
AT, EARLIER = "2026-11-22T08:00:05Z", "2026-11-22T08:00:04Z"
REQUEST: dict[str, Any] = {"run_id": "R1", "iteration": 3, "requested_at": "T1"}


def approval(digest: str | None = "bb", **content: Any) -> Request:
    return Request.of({**REQUEST, **content} if digest else {}, digest)


def decided(status: str = "approved", by: str = "ana", at: str = AT, note: str | None = None) -> dict[str, Any]:
    return {"status": status, "decision": {"status": status, "by": by, "note": note, "at": at}}


def line(status: str = "approved", by: str = "ana", at: str = AT, run_id: str = "R1") -> list[Decision]:
    return decisions_in_record([{"timestamp": at, "run_id": run_id, "decision": status, "by": by}])


def event(name: str, status: str = "approved", by: str = "ana", run_id: str = "R1") -> list[Decision]:
    data = {"status": status, "by": by, "note": None, "at": AT}
    return decisions_in_events([(8, {"event": name, "run_id": run_id, "data": data})])


UNTOUCHED, MISSING, DAMAGED = approval("aa", status="pending"), approval(None), Request(readable=False)
NEXT = approval("cc", status="pending", run_id="R2", iteration=1, requested_at="T2")


@pytest.mark.parametrize(
    ("now", "recorded", "effect", "reason"),
    [
        # Nothing, or a file beside it that nobody reads, was written.
        (UNTOUCHED, [], Effect.ABSENT, "approval_untouched"),
        # approval.json, decisions.jsonl and the event, one after the other.
        (approval(**decided()), [], Effect.SEEN, "decision_recorded"),
        (approval(**decided()), line(), Effect.SEEN, "decision_recorded"),
        (approval(**decided()), [*line(), *event("approval_decision")], Effect.SEEN, "decision_recorded"),
        # A run has taken it up since, and asks anew.
        (MISSING, line(), Effect.SEEN, "decision_recorded"),
        (MISSING, event("approval_consumed"), Effect.SEEN, "decision_recorded"),
        (NEXT, event("approval_decision"), Effect.SEEN, "decision_recorded"),
        (DAMAGED, event("approval_decision"), Effect.SEEN, "decision_recorded"),
        # Somebody else was first: ours was refused, if it was made at all.
        (approval(**decided(by="bo")), [], Effect.ABSENT, "decided_otherwise"),
        (approval(**decided("rejected")), [], Effect.ABSENT, "decided_otherwise"),
        (approval(**decided(note="mine")), [], Effect.ABSENT, "decided_otherwise"),
        # The same request in other bytes: a decision cannot be taken back.
        (approval(status="pending"), [], Effect.ABSENT, "approval_still_pending"),
        # Another request came before the command did.
        (NEXT, line(run_id="R2"), Effect.SEEN, "decision_recorded"),
        # Somebody else decided, and a run took that up: ours may have met the request after it.
        (MISSING, line(by="bo"), Effect.UNKNOWN, "approval_replaced"),
        (NEXT, event("approval_consumed", by="bo"), Effect.UNKNOWN, "approval_replaced"),
        # What is older is no evidence.
        (approval(**decided(at=EARLIER)), [], Effect.UNKNOWN, "approval_replaced"),
        (MISSING, [], Effect.UNKNOWN, "approval_replaced"),
        (NEXT, [], Effect.UNKNOWN, "approval_replaced"),
        (DAMAGED, [], Effect.UNKNOWN, "approval_unreadable"),
    ],
)
def test_lost_approval_is_found_by_what_it_left(
    now: Request, recorded: list[Decision], effect: Effect, reason: str
) -> None:
    found = find_decision(Intent.APPROVE_PENDING, "ana", None, BEFORE, now, recorded)

    assert (found.effect, found.reason) == (effect, reason)


def test_lost_rejection_is_found_by_a_rejection_only() -> None:
    for status, effect in (("rejected", Effect.SEEN), ("approved", Effect.ABSENT)):
        found = find_decision(Intent.REJECT_PENDING, "ana", "no", BEFORE, approval(**decided(status, note="no")), [])

        assert found.effect is effect


def test_decision_on_a_request_without_a_run_id_is_found() -> None:
    """`{}` counts as pending for the runtime, which then writes run id "unknown"."""
    before = Baseline(approval_sha256="aa", at=AT)
    now = Request.of(decided(), "bb")

    found = find_decision(Intent.APPROVE_PENDING, "ana", None, before, now, line(run_id="unknown"))

    assert found.evidence["decisions"] == [
        {"source": "approval.json", "status": "approved", "by": "ana", "at": AT},
        {"source": "decisions.jsonl", "status": "approved", "by": "ana", "at": AT},
    ]


NOTHING_ASKED = Baseline(line=7, at=AT)
NAMELESS = Baseline(line=7, at=AT, approval_sha256="aa")
TAKEN_UP = [(8, {"event": "approval_rejected", "run_id": "R2", "data": {"status": "rejected"}})]


@pytest.mark.parametrize(
    ("before", "now", "events", "effect", "reason"),
    [
        (NOTHING_ASKED, MISSING, [], Effect.ABSENT, "approval_untouched"),
        (NAMELESS, Request.of({}, "aa"), [], Effect.ABSENT, "approval_untouched"),
        (NAMELESS, Request.of({"status": "pending"}, "bb"), [], Effect.ABSENT, "approval_still_pending"),
        # A rejection that was never told of was taken up: a file like the one before says nothing any more.
        (NOTHING_ASKED, MISSING, TAKEN_UP, Effect.UNKNOWN, "approval_replaced"),
        (NAMELESS, Request.of({}, "aa"), TAKEN_UP, Effect.UNKNOWN, "approval_replaced"),
        (NAMELESS, Request.of({"status": "pending"}, "bb"), TAKEN_UP, Effect.UNKNOWN, "approval_replaced"),
        (NAMELESS, Request.of(decided(by="bo"), "bb"), TAKEN_UP, Effect.UNKNOWN, "approval_replaced"),
    ],
)
def test_request_that_cannot_be_told_from_another_is_untouched_only_while_none_was_taken_up(
    before: Baseline, now: Request, events: list[tuple[int, dict[str, Any]]], effect: Effect, reason: str
) -> None:
    found = find_decision(
        Intent.REJECT_PENDING, "ana", None, before, now, decisions_in_events(events), taken_up=was_taken_up(events)
    )

    assert (found.effect, found.reason) == (effect, reason)


def test_decision_without_a_time_is_not_known_to_have_been_made_since() -> None:
    timeless = [Decision(source="approval_decision", status="approved", by="ana")]

    found = find_decision(Intent.APPROVE_PENDING, "ana", None, BEFORE, MISSING, timeless)

    assert (found.effect, found.reason) == (Effect.UNKNOWN, "approval_replaced")


def test_decision_that_was_there_before_is_no_evidence() -> None:
    before = BEFORE.model_copy(update={"approval_sha256": "bb"})

    found = find_decision(Intent.APPROVE_PENDING, "ana", None, before, approval(**decided()), [])

    assert found.effect is Effect.ABSENT


OURS, LATER = LoopRun(11, "1.0", "demo", in_active_run=True), LoopRun(11, "2.0", "demo", in_active_run=True)
RUNNING = Baseline(line=5, run_id="R1", runs=[RunRef(pid=11, start_time="1.0")], state_sha256="aa")
STARTING = RUNNING.model_copy(update={"state_sha256": None})
CRASHED = Baseline(line=5, run_id="R1", state_sha256="aa")
ACTIVE = {"active": True, "current_loop_id": "demo"}
END, START = (6, {"event": "loop_complete", "run_id": "R1"}), (7, {"event": "loop_start", "run_id": "R2"})


def situation(state: dict[str, Any], *runs: LoopRun, complete: bool = True) -> Situation:
    return Situation(state, {}, ActivePid.NONE, runs, complete)


@pytest.mark.parametrize(
    ("before", "after", "digest", "events", "effect", "reason"),
    [
        # Nothing was done: state.json, which goes first, is as it was.
        (RUNNING, situation(ACTIVE, OURS), "aa", [], Effect.ABSENT, "state_untouched"),
        (RUNNING, situation(ACTIVE), "aa", [], Effect.ABSENT, "state_untouched"),
        (CRASHED, situation(ACTIVE), "aa", [], Effect.ABSENT, "state_untouched"),
        # state.json deleted, the run not ended; and the run has written it anew since.
        (RUNNING, situation({}, OURS), None, [], Effect.UNFINISHED, "run_still_alive"),
        (RUNNING, situation(ACTIVE, OURS), "bb", [], Effect.UNFINISHED, "run_still_alive"),
        # The run ended; active-run.json may be there or not.
        (RUNNING, situation({}), None, [], Effect.SEEN, "state_removed"),
        (RUNNING, situation({}, LATER), None, [], Effect.SEEN, "state_removed"),
        (CRASHED, situation({}), None, [], Effect.SEEN, "state_removed"),
        # A later run is at work: what had crashed was cleared.
        (CRASHED, situation(ACTIVE, LATER), "bb", [START], Effect.SEEN, "later_run_started"),
        # What was at work may have ended without a word of its end, as one that asks for an approval does.
        (RUNNING, situation(ACTIVE, LATER), "bb", [START], Effect.UNKNOWN, "later_run_started"),
        # The run wrote on and is gone, by itself or by the signal: what it left can still be cleared.
        (RUNNING, situation(ACTIVE), "bb", [], Effect.UNFINISHED, "state_still_active"),
        # It had no state yet that could have been deleted, and is gone: by the signal, or because it was refused.
        (STARTING, situation({}), None, [], Effect.UNKNOWN, "no_state_before"),
        (STARTING, situation({}, OURS), None, [], Effect.UNFINISHED, "run_still_alive"),
        # Cleared and begun anew within a second: the bytes are the same, the run is not.
        (RUNNING, situation(ACTIVE, LATER), "aa", [], Effect.UNKNOWN, "another_run_lives"),
        (CRASHED, situation(ACTIVE, LATER), "aa", [], Effect.UNKNOWN, "another_run_lives"),
        # Another run lives that has not said so in the log, or whose log cannot be read: it must not be ended.
        (RUNNING, situation(ACTIVE, LATER), "bb", [], Effect.UNKNOWN, "another_run_lives"),
        (CRASHED, situation(ACTIVE, LATER), "bb", [], Effect.UNKNOWN, "another_run_lives"),
        (RUNNING, situation(ACTIVE, LATER), "bb", None, Effect.UNKNOWN, "log_unreadable"),
        (CRASHED, situation(ACTIVE), "bb", None, Effect.UNKNOWN, "log_unreadable"),
        # It ended by itself: whether it was cancelled as well, nobody can know.
        (RUNNING, situation({"active": False}), "bb", [END], Effect.UNKNOWN, "ended_by_itself"),
        (RUNNING, situation(ACTIVE, LATER), "bb", [END, START], Effect.UNKNOWN, "ended_by_itself"),
        # Somebody has cleared what it left, or what a later one did.
        (RUNNING, situation({}), None, [END], Effect.UNKNOWN, "ended_by_itself"),
        (RUNNING, situation({}), None, [START], Effect.UNKNOWN, "later_run_started"),
        (RUNNING, situation({}), None, None, Effect.SEEN, "state_removed"),
        (CRASHED, situation({"active": False}), "bb", [], Effect.UNKNOWN, "state_replaced"),
        (RUNNING, situation({}, complete=False), None, [], Effect.UNKNOWN, "processes_not_visible"),
    ],
)
def test_lost_cancel_is_found_by_state_and_process(
    before: Baseline,
    after: Situation,
    digest: str | None,
    events: list[tuple[int, dict[str, Any]]] | None,
    effect: Effect,
    reason: str,
) -> None:
    found = find_cancel("demo", before, after, digest, events)

    assert (found.effect, found.reason) == (effect, reason)

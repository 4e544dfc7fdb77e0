"""The feed: one line for every change, none for what was told before."""

from datetime import timedelta
from typing import Any

from cli.changes import changes
from contract.divergence import DivergenceReport
from contract.status import (
    Attention,
    AttentionReport,
    CursorReport,
    IntentStage,
    Lifecycle,
    StageRecord,
    StatusReport,
    Transition,
    TransportReport,
)
from tests.cli.reports import NOW, RUN, record, report


def texts(before: StatusReport | None, after: StatusReport) -> list[str]:
    return [change.text for change in changes(before, after)]


def transition(lifecycle: Lifecycle, line: int, **changed: Any) -> Transition:
    given = {"reason": "why", "at": NOW, "run_id": RUN, "iteration": 1, **changed}
    return Transition(lifecycle=lifecycle, line=line, **given)


STARTED = transition(Lifecycle.STARTING, 1)


def test_first_look_says_where_the_loop_stands() -> None:
    assert texts(None, report()) == [
        f"running (iteration_start), run {RUN} iteration 2, line 0, through sprite service",
    ]


def test_loop_in_need_of_a_human_says_so_at_the_first_look() -> None:
    told = texts(None, report(attention=AttentionReport(code=Attention.CRASHED, sentence="The run died.")))
    assert told[-1] == "ATTENTION crashed: The run died."


def test_nothing_new_tells_nothing() -> None:
    full = report(transitions=[STARTED], intents=[record(IntentStage.RECORDED)])
    later = full.model_copy(update={"last_contact_at": NOW, "observed_at": NOW})
    assert texts(full, later) == []


def test_every_transition_since_the_last_look_is_told_with_its_own_time() -> None:
    run = transition(Lifecycle.RUNNING, 2, at=NOW + timedelta(seconds=1))
    end = transition(Lifecycle.COMPLETE, 30, at=NOW + timedelta(seconds=9), reason="loop_complete")
    found = changes(report(transitions=[STARTED]), report(transitions=[STARTED, run, end]))
    assert [change.at for change in found] == [run.at, end.at]
    assert found[1].text == f"-> complete: loop_complete, run {RUN} iteration 1 (line 30)"


def test_transitions_forgotten_by_the_supervisor_are_not_told_again() -> None:
    many = [transition(Lifecycle.RUNNING, line) for line in range(1, 61)]
    fresh = transition(Lifecycle.COMPLETE, 61)
    assert len(texts(report(transitions=many), report(transitions=[*many[1:], fresh]))) == 1


def test_next_iteration_of_a_run_is_a_line() -> None:
    after = report(iteration=3, transitions=[STARTED], cursor=CursorReport(event_line_offset=70))
    assert texts(report(transitions=[STARTED]), after) == ["iteration 3, line 70"]


def test_iteration_that_a_transition_told_is_not_told_twice() -> None:
    run = transition(Lifecycle.RUNNING, 2, iteration=3)
    assert len(texts(report(transitions=[STARTED]), report(iteration=3, transitions=[STARTED, run]))) == 1


def test_transport_epoch_and_divergence_are_told() -> None:
    diverged = DivergenceReport(id="d1", type="events_rewritten", detail="at line 7", since=NOW)
    after = report(
        transport=TransportReport(state="local", reason="the service is gone", since=NOW),
        cursor=CursorReport(epoch=2),
        divergence=[diverged],
    )
    assert texts(report(), after) == [
        "transport sprite service -> local: the service is gone",
        "the log was rewritten: epoch 2, read anew from line 1",
        "DIVERGED d1 events_rewritten: at line 7",
    ]
    assert texts(after, after.model_copy(update={"divergence": []})) == ["no longer diverged: d1 events_rewritten"]


def test_each_stage_of_an_intent_is_told_once_and_the_last_with_its_sentence() -> None:
    sent = record(IntentStage.RECEIVED, stages=[StageRecord(stage=IntentStage.RECEIVED, at=NOW)])
    done = record(IntentStage.RECORDED, sentence="Recorded: ana approved it.")
    assert texts(report(), report(intents=[sent])) == ["APPROVE_PENDING by ana received"]
    assert texts(report(intents=[sent]), report(intents=[done])) == [
        "APPROVE_PENDING by ana Recorded: ana approved it.",
    ]
    assert texts(report(intents=[done]), report(intents=[done])) == []


def test_attention_opens_and_closes_once() -> None:
    crashed = report(attention=AttentionReport(code=Attention.CRASHED, sentence="The run died.", since=NOW))
    assert texts(report(), crashed) == ["ATTENTION crashed: The run died."]
    assert texts(crashed, crashed) == []
    assert texts(crashed, report()) == ["attention cleared (crashed)"]

"""Every word of the manager has an exit code, and each code means one thing."""

import pytest

from cli.exit_codes import ExitCode, for_contact, for_intent
from contract.observation import Contact
from contract.status import Attention, IntentStage

RECORDED, CONFIRMED = IntentStage.RECORDED, IntentStage.CONFIRMED


def test_every_stage_and_attention_has_a_code() -> None:
    codes = {
        for_intent(stage, wanted, attention)
        for stage in IntentStage
        for wanted in (RECORDED, CONFIRMED)
        for attention in Attention
    }
    assert codes == {
        ExitCode.DONE, ExitCode.NOT_FOUND, ExitCode.REFUSED, ExitCode.AMBIGUOUS, ExitCode.TRANSPORT, ExitCode.AUTH,
        ExitCode.UNREACHABLE,
    }  # fmt: skip


@pytest.mark.parametrize("contact", Contact)
def test_every_answer_of_a_sprite_has_a_code(contact: Contact) -> None:
    assert (for_contact(contact) is ExitCode.DONE) == (contact is Contact.OK)


@pytest.mark.parametrize(
    ("stage", "wanted", "code"),
    [
        (IntentStage.RECORDED, RECORDED, 0),
        (IntentStage.CONFIRMED, RECORDED, 0),
        (IntentStage.CONFIRMED, CONFIRMED, 0),
        (IntentStage.EXECUTED_UNCONFIRMED, RECORDED, 0),
        (IntentStage.RECORDED, CONFIRMED, 6),
        (IntentStage.REJECTED, RECORDED, 4),
        (IntentStage.EXPIRED, RECORDED, 4),
        (IntentStage.FAILED_COMMAND, RECORDED, 4),
        (IntentStage.AMBIGUOUS, RECORDED, 6),
        (IntentStage.EXECUTING, RECORDED, 6),
        (IntentStage.RECEIVED, RECORDED, 9),
        (IntentStage.ACCEPTED, CONFIRMED, 9),
    ],
)
def test_stage_an_intent_stands_at_decides_the_code(stage: IntentStage, wanted: IntentStage, code: int) -> None:
    assert for_intent(stage, wanted) == code


@pytest.mark.parametrize("stage", [IntentStage.RECEIVED, IntentStage.ACCEPTED, IntentStage.EXPIRED])
@pytest.mark.parametrize(("attention", "code"), [(Attention.BLIND, 7), (Attention.UNAUTHORIZED, 8)])
def test_intent_nobody_could_execute_is_explained_by_the_loops_condition(
    stage: IntentStage, attention: Attention, code: int
) -> None:
    assert for_intent(stage, RECORDED, attention) == code


def test_condition_of_the_loop_never_hides_what_was_done() -> None:
    assert for_intent(IntentStage.RECORDED, RECORDED, Attention.BLIND) == 0
    assert for_intent(IntentStage.AMBIGUOUS, RECORDED, Attention.UNAUTHORIZED) == 6

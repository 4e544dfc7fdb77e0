"""Names that may be used as folders, arguments, workflow ids and queues, and those that must not (D11)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import IdentifierInvalid
from contract.identifiers import (
    MAX_LOOP_ID_CHARS,
    check_loop_id,
    check_sprite_name,
    control_task_queue,
    local_task_queue,
    notices_task_queue,
    observe_task_queue,
    split_workflow_id,
    workflow_id,
)


@pytest.mark.parametrize(
    "loop_id",
    [
        "demo",
        "a",
        "demo-1",
        "a.b",
        "a:b",
        "two words",
        "Schleife-ü",
        "循环",
        "it's; rm $(x)",
        "x" * 128,
        "a-",
        ".hidden",
    ],
)
def test_loop_id_that_is_a_plain_folder_name_is_taken_as_it_is(loop_id: str) -> None:
    assert check_loop_id(loop_id) == loop_id
    assert split_workflow_id(workflow_id("acme", loop_id)) == ("acme", loop_id)


@pytest.mark.parametrize(
    ("loop_id", "problem"),
    [
        (None, "loopId is required"),
        ("", "loopId is required"),
        (7, "loopId must be a string, not int"),
        (False, "loopId must be a string, not bool"),
        (["demo"], "loopId must be a string, not list"),
        ("a/b", "must not contain a slash"),
        ("/etc", "must not contain a slash"),
        ("a\\b", "must not contain a slash"),
        ("..", "must not contain '..'"),
        (".", "must not contain '..'"),
        ("a..b", "must not contain '..'"),
        ("../../etc/passwd", "must not contain a slash"),
        ("-rf", "must not begin with '-'"),
        ("--repo", "must not begin with '-'"),
        ("a\nb", "must not contain control characters"),
        ("a\x00b", "must not contain control characters"),
        ("a\x7f", "must not contain control characters"),
        ("a\x85b", "must not contain control characters"),
        ("\u202edemo", "must not contain control characters"),
        ("\ud800", "must not contain control characters"),
        (" demo", "surrounding spaces"),
        ("demo ", "surrounding spaces"),
        (" ", "surrounding spaces"),
        ("x" * (MAX_LOOP_ID_CHARS + 1), "is longer than 128 characters"),
        ("循" * 100, "is longer than 255 bytes"),
    ],
)
def test_loop_id_that_could_leave_its_folder_or_become_an_option_is_refused(loop_id: object, problem: str) -> None:
    with pytest.raises(IdentifierInvalid) as raised:
        check_loop_id(loop_id)
    assert problem in str(raised.value)
    assert len(str(raised.value)) < 200
    assert str(raised.value).isprintable()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=140))
def test_whatever_is_taken_is_one_component_of_a_path(text: str) -> None:
    try:
        taken = check_loop_id(text)
    except IdentifierInvalid:
        return
    assert taken == text
    assert "/" not in text
    assert text not in (".", "..")
    assert not text.startswith("-")
    assert 0 < len(text) <= 128
    assert len(text.encode("utf-8")) <= 255
    assert text.isprintable()


@pytest.mark.parametrize("sprite", ["a", "acme", "acme-prod.eu_1", "x" * 63, "7"])
def test_sprite_name_of_letters_and_digits_is_taken(sprite: str) -> None:
    assert check_sprite_name(sprite) == sprite
    assert local_task_queue("ops-manager", sprite) == f"ops-manager-local-{sprite}"


@pytest.mark.parametrize("sprite", ["", "-a", "a-", "a b", "a/b", "a:b", "ü", "x" * 64, "a\n", ".a"])
def test_sprite_name_that_could_confuse_ids_or_queues_is_refused(sprite: str) -> None:
    with pytest.raises(IdentifierInvalid):
        check_sprite_name(sprite)
    with pytest.raises(IdentifierInvalid):
        local_task_queue("ops-manager", sprite)


def test_queues_of_one_base_name_are_all_different() -> None:
    services = [observe_task_queue("q"), control_task_queue("q"), notices_task_queue("q")]
    assert services == ["q-observe", "q-control", "q-notices"]
    assert [local_task_queue("q", sprite) for sprite in "ab"] == ["q-local-a", "q-local-b"]


@pytest.mark.parametrize(
    "text", ["", "loop", "loop:", "loop:acme", "loop:acme:", "acme:demo:x", ":acme:demo", "x:acme:demo"]
)
def test_id_of_another_workflow_is_not_taken_for_a_supervisors(text: str) -> None:
    with pytest.raises(IdentifierInvalid):
        split_workflow_id(text)

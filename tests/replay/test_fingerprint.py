"""The shape of the workflow changes on purpose only."""

import pytest

from tests.replay.fingerprint import HOW, calls, difference, fingerprint

BEFORE = """
class Part:
    async def run(self):
        await workflow.wait_condition(lambda: self.ready)
        await workflow.sleep(5, summary="before")
        await workflow.execute_activity("observe", self.request, start_to_close_timeout=LONG)
"""


def test_shape_of_the_workflow_is_the_one_that_was_accepted() -> None:
    changed = difference()
    assert changed == [], "\n".join(["", *changed, HOW])


def test_every_kind_of_command_that_the_workflow_makes_is_seen() -> None:
    shape = "\n".join(fingerprint())
    for command in ("start_activity(", "execute_activity(", "sleep(", "continue_as_new(", "upsert_search_attributes("):
        assert command in shape, command
    assert "workflow.patched(_PREDECESSORS)" in shape
    assert "Observing._observe_once: remote.start_observe()" in shape


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ('workflow.sleep(5, summary="before")', "asyncio.sleep(5)"),
        ('"observe"', '"look"'),
        ("wait_condition(lambda: self.ready)", "wait_condition(lambda: self.ready, timeout=5)"),
        ("        await workflow.sleep", "        workflow.patched('x')\n        await workflow.sleep"),
        ('        await workflow.sleep(5, summary="before")\n', ""),
    ],
)
def test_command_that_is_new_gone_or_another_changes_the_shape(change: str, to: str) -> None:
    assert change in BEFORE
    assert calls(BEFORE.replace(change, to)) != calls(BEFORE)


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ("sleep(5, summary", "sleep(60, summary"),
        ('summary="before"', 'summary="after"'),
        ("start_to_close_timeout=LONG", "start_to_close_timeout=SHORT"),
        ("self.ready", "self.is_ready"),
    ],
)
def test_duration_or_text_leaves_the_shape_as_it_is(change: str, to: str) -> None:
    assert change in BEFORE
    assert calls(BEFORE.replace(change, to)) == calls(BEFORE)

"""The card in Temporal's UI: golden texts, and that nothing written by others becomes markup."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from contract.intents import Intent
from contract.observation import Contact, TransportMode
from contract.status import IntentStage, StatusReport
from tests.rules.world import Runtime, World, running, waiting
from workflows import transport
from workflows.attention import assess
from workflows.report import card, status_report

WAITING = """\
### acme/demo: awaiting approval (approval\\_requested) since 2026-11-22 03:00:01Z
- run R1 iteration 2
- observed 2026-11-22 03:00:03Z through the sprite service, line 6
- **Waiting for approval of run R1 iteration 2: approve or reject it.**

```
temporal workflow signal \\
  --workflow-id loop:acme:demo \\
  --name APPROVE_PENDING \\
  --input '{"by":"YOUR-NAME","expect":{"spriteId":"sprite-1","runId":"R1","approvalSha256":"a1b2c3d4a1b2c3d4"}}'
```

- 2026-11-22 03:00:02Z **CANCEL\\_LOOP** by ana: Nothing done: nothing to cancel: the loop is awaiting approval since \
2026-11-22 03:00:01Z."""

COMPLETE = """\
### acme/demo: complete since 2026-11-22 03:00:02Z
- run R1 iteration 1
- observed 2026-11-22 03:00:03Z through the sprite service, line 4
- Nobody is needed.

```
ops-manager status acme/demo
```"""

NEVER_SEEN = """\
### acme/demo: unknown (not\\_observed\\_yet) since never
- observed never through nothing: blind, line 0
- **Cannot see the loop (never seen): the local transport does not answer: no worker took the task within 30 s**

```
ops-manager doctor acme/demo
```"""


def test_card_of_a_waiting_loop_reads_as_written() -> None:
    world = waiting()
    world.judge(world.send("CANCEL_LOOP"))
    assert card(world.state) == WAITING


def test_card_of_a_finished_loop_reads_as_written() -> None:
    world = running()
    world.complete()
    world.look()
    assert card(world.state) == COMPLETE


def test_card_of_a_loop_nobody_can_see_reads_as_written() -> None:
    world = World(service=False)
    transport.failed(
        world.state.transport, world.state.transport.active, "no worker took the task within 30 s", world.now
    )
    assert card(world.state) == NEVER_SEEN


def test_card_shows_the_last_five_intents_newest_first_rejections_included() -> None:
    world = waiting()
    world.send("APPROVE_PENDING", None)
    world.send("APROVE_PENDING")
    for number in range(4):
        world.send("REJECT_PENDING", f'{{"by":"person {number}","nope":1}}')
    world.order(Intent.APPROVE_PENDING, '{"by":"eve"}')
    rows = card(world.state).rpartition("```\n\n")[2].splitlines()
    senders = [re.search(r"\*\* by (.*?): ", row)[1] for row in rows]  # type: ignore[index]
    assert senders == ["eve", "person 3", "person 2", "person 1", "person 0"]
    assert "executing" in rows[0]
    assert "unknown field 'nope'" in rows[1]
    assert len(rows) == 5


MARKUP = "x`y|z*_a_[l](http://h)<b>\n\n# h\n```\n&lt;"


def test_nothing_that_others_wrote_becomes_markup() -> None:
    world = Runtime("it's `a` [loop] <b>|#*_~")
    world.event("loop_start", MARKUP)
    world.event("loop_stop", MARKUP, reason=MARKUP)
    world.look()
    world.send("CANCEL_LOOP", '{"by":"<script>|`*_[x](y)","note":"n"}')
    world.send(MARKUP, "{}")
    world.contact(Contact.RUNTIME_ERROR, MARKUP)
    told = card(world.state)
    outside, fence, command, *rest = re.split(r"^(```)\n(.*)\n```$", told, flags=re.MULTILINE)
    assert fence == "```"
    assert "\n" not in command.replace(" \\\n  --", "")
    for line in (outside + "".join(rest)).splitlines():
        body = line.removeprefix("### ").removeprefix("- ").removeprefix("**").removesuffix("**")
        body = re.sub(r"^(\S+ \S+Z) \*\*((?:\\.|[^*\\])*)\*\* by ", r"\1 \2 by ", body)
        assert not re.search(r"(?<!\\)[`*_~<>\[\]#&|]", body.replace("\\\\", "")), line
    assert len(rest) == 1


@pytest.mark.parametrize("loop_id", ["demo", "a --b 'c'", "it's --name X"])
def test_command_on_the_card_is_the_command_however_it_is_broken_into_lines(loop_id: str) -> None:
    world = Runtime(loop_id)
    world.start("R --1")
    world.work("R --1")
    world.ask("R --1")
    world.look()
    [shown] = re.findall(r"^```\n(.*)\n```$", card(world.state), flags=re.MULTILINE | re.DOTALL)
    printed = subprocess.run(
        ["sh", "-c", f"temporal() {{ printf '%s\\0' \"$@\"; }}; {shown}"], capture_output=True, check=True, timeout=10
    )
    command = assess(world.state).next_command
    assert command is not None
    assert ["temporal", *printed.stdout.decode().split("\0")[:-1]] == shlex.split(command)


def test_card_has_no_more_lines_than_a_screen_and_long_texts_are_cut() -> None:
    world = running()
    for _ in range(30):
        world.send("CANCEL_LOOP", '{"by":"ana","x":"%s"}' % ("y" * 5000))
    world.contact(Contact.RUNTIME_ERROR, "e" * 10_000)
    told = card(world.state)
    assert len(told.splitlines()) < 24
    assert max(map(len, told.splitlines())) < 1_200


@pytest.mark.parametrize("make", [World, running, waiting])
def test_status_report_is_camel_case_json_that_reads_back(make: type[World]) -> None:
    world = make()
    report = status_report(world.state, local_only=False, run_id="run", history_length=7)
    text = report.model_dump_json(by_alias=True)
    assert StatusReport.model_validate_json(text) == report
    assert '"asOf":{"runId":"run","historyLength":7}' in text
    assert '"eventLineOffset":' in text
    assert '"observedAt":' in text


def test_status_report_shows_the_pending_approval_only_while_it_is_pending() -> None:
    world = waiting()
    report = status_report(world.state, local_only=False, run_id="run", history_length=7)
    assert report.pending_approval is not None
    assert (report.pending_approval.run_id, report.pending_approval.promise) == ("R1", True)
    world.decide("approved", iteration=2)
    world.look()
    report = status_report(world.state, local_only=False, run_id="run", history_length=7)
    assert report.pending_approval is None
    assert report.lifecycle.value == "decided"


def test_status_report_names_the_lines_that_were_no_events_with_their_reasons() -> None:
    world = running()
    bad = [{"line": 4, "reason": "not JSON: Expecting value", "h": "0" * 16}]
    cursor = world.state.cursor.model_copy(update={"line": 4})
    world.look(quarantined=bad, cursor=cursor, events=[])
    report = status_report(world.state, local_only=False, run_id="run", history_length=7)
    assert report.cursor.quarantined == 1
    assert [(q.line, q.reason) for q in report.cursor.quarantined_lines] == [(4, "not JSON: Expecting value")]


def test_intents_of_the_report_carry_every_stage() -> None:
    world = waiting()
    world.order(Intent.APPROVE_PENDING)
    report = status_report(world.state, local_only=False, run_id="run", history_length=7)
    assert [stage.stage for stage in report.intents[-1].stages] == [
        IntentStage.RECEIVED,
        IntentStage.ACCEPTED,
        IntentStage.EXECUTING,
    ]


def test_card_says_to_what_the_loop_is_pinned_where_that_is_not_what_is_used() -> None:
    world = running()
    known = world.state.transport
    transport.pin(known, TransportMode.LOCAL, world.now, by="ana")
    assert "the local transport (pinned by ana)" in card(world.state)
    transport.pin(known, TransportMode.SPRITE_SERVICE, world.now, by="bo")
    assert "the local transport (pinned to sprite service by bo)" in card(world.state)

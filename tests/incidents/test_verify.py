"""`verify`: three sources that know nothing of each other, and what is said when one of them was changed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.observation import ActivityName, Observation
from contract.status import CursorReport
from incidents.collect import newest_chain
from incidents.fold import fold
from incidents.history import Run
from incidents.log import EventLog, LoggedLine
from incidents.states import replay_run
from incidents.verify import verify
from tests.cli.ops import Ops
from tests.harness import FAST, Supervised, Supervisors
from tests.harness_sprite import CANDIDATE, CONTINUE, WAITING, Sprite, edit_line, loops, runs
from tests.incidents.kept import CHAIN, kept_runs
from tests.interop.independent import read_log
from tests.workflow.test_reconciling import diverged, doctored

LONG = loops(demo=runs([CONTINUE, CONTINUE, CANDIDATE], [CONTINUE, CANDIDATE], stuck_threshold=0))


async def _settled_at_head(supervise: Supervisors, sprite: Sprite) -> Supervised:
    sprite.serve()
    loop = await supervise(sprite, options=FAST.model_copy(update={"continue_as_new_events": 20}))
    for _ in range(2):
        sprite.run().wait()
        await loop.until(lambda seen: seen.cursor.event_line_offset == len(sprite.events()), "every line is taken")
    # Observers that are given up on may still bring lines that their successor has taken.
    while len(await loop.runs()) < 3:
        await loop.handle.execute_update("OBSERVE_NOW")
    return loop


@pytest.mark.parametrize("names", [("approve-consume",), ("fallback",), CHAIN])
async def test_histories_give_the_cursor_that_the_workflow_believes_in(names: tuple[str, ...]) -> None:
    chain = kept_runs(*names)
    believed = (await replay_run(chain[-1])).states[-1].report.cursor
    report = verify(chain, log=None, belief=believed)
    assert report.differences == []
    assert (report.epochs[-1].lines, report.epochs[-1].chain) == (believed.event_line_offset, believed.chain)
    assert report.agreed is None
    assert "the log was not read" in report.sentence


async def test_believed_cursor_that_no_observation_gives_is_a_difference() -> None:
    chain = kept_runs("approve-consume")
    believed = (await replay_run(chain[-1])).states[-1].report.cursor
    report = verify(chain, log=None, belief=believed.model_copy(update={"event_line_offset": 5}))
    assert report.agreed is False
    assert "believes another cursor" in report.sentence


def test_chain_whose_first_run_is_lost_is_known_from_where_it_was_taken_over() -> None:
    whole, rest = fold(kept_runs(*CHAIN)).newest, fold(kept_runs(*CHAIN[1:])).newest
    assert rest.from_line > 0
    assert (rest.head, rest.chain, rest.gaps()) == (whole.head, whole.chain, [])
    assert sorted(rest.lines) == list(range(rest.from_line + 1, rest.head + 1))


def test_run_that_was_reset_tells_its_lines_once() -> None:
    first, second, third = kept_runs(*CHAIN)
    whole = fold([first, second, third])
    for chain in ([first, first, second, third], [first, second, second, third]):
        folded = fold(chain)
        assert folded.contradictions == []
        assert (folded.newest.lines, folded.newest.chain) == (whole.newest.lines, whole.newest.chain)
        assert folded.newest.brought_again == 0
    assert newest_chain([first, second, third]) == [first, second, third]
    assert newest_chain([first, third]) == [third]


def test_run_that_was_handed_lines_that_its_predecessor_never_saw_is_a_contradiction() -> None:
    first, second, _ = kept_runs(*CHAIN)
    without_its_news = Run.from_json("loop:acme:demo", first.to_json().replace('"observe"', '"another"'))
    folded = fold([without_its_news, second])
    assert folded.contradictions
    assert "history ends at line 0" in folded.contradictions[0].what


def _log(lines: int, *, trouble: str = "", without: int | None = None) -> EventLog:
    """A log of which every line is as the kept approval has it, as far as that tells: by its hash."""
    folded = fold(kept_runs("approve-consume")).newest
    shown = [
        LoggedLine(line=number, reason="only its hash", h=folded.lines[number].h)
        for number in range(1, lines + 1)
        if number != without
    ]
    now = datetime(2026, 11, 26, tzinfo=UTC)
    return EventLog(transport="local", read_at=now, line_count=lines, lines=shown, trouble=trouble)


def test_log_that_was_not_read_to_its_end_leaves_it_undecided_and_is_no_log_that_ends_early() -> None:
    report = verify(kept_runs("approve-consume"), log=_log(5, trouble="line 6: cannot connect"), belief=None)
    assert (report.differences, report.agreed) == ([], None)
    assert report.sentence.startswith("Not decided: the log could not be read to its end (line 6: cannot connect)")
    shorter = verify(kept_runs("approve-consume"), log=_log(5), belief=None)
    assert shorter.agreed is False
    assert "the log ends at line 5" in shorter.sentence


def test_line_that_history_has_and_the_log_does_not_show_leaves_it_undecided() -> None:
    whole = fold(kept_runs("approve-consume")).newest.head
    report = verify(kept_runs("approve-consume"), log=_log(whole, without=4), belief=None)
    assert (report.differences, report.agreed) == ([], None)
    assert report.sentence.startswith("Not decided: the log does not show line 4")


def _first_reading_again_under(run: Run, epoch: int) -> Run:
    """The run, whose observations brought everything under `epoch`: nothing but that says that one began."""
    again = Run.from_json(run.workflow_id, run.to_json())
    for activity in again.activities:
        if activity.name == ActivityName.OBSERVE and activity.result is not None:
            seen = Observation.model_validate_json(activity.result.data)
            seen.cursor = seen.cursor.model_copy(update={"epoch": epoch})
            activity.result.data = seen.model_dump_json().encode()
    return again


def test_epoch_that_an_operator_began_is_followed_before_and_after_its_first_line_was_read() -> None:
    (run,) = kept_runs("approve-consume")
    folded = fold([_first_reading_again_under(run, 2)])
    before = fold([run]).newest
    assert [(epoch.number, epoch.head) for epoch in folded.epochs] == [(1, 0), (2, before.head)]
    assert (folded.contradictions, folded.newest.gaps(), folded.newest.chain) == ([], [], before.chain)

    # Decided, and nothing has been read since: the log that was accepted is another one from its first line on.
    decided = CursorReport(event_line_offset=0, epoch=2)
    log = EventLog(
        transport="sprite_service",
        read_at=datetime(2026, 11, 26, tzinfo=UTC),
        line_count=1,
        lines=[LoggedLine(line=1, raw={"event": "loop_start", "timestamp": "2026-11-22T00:00:00Z"})],
    )
    report = verify([run], log=log, belief=decided)
    assert (report.differences, report.agreed, report.new_lines) == ([], True, 1)
    assert [(epoch.epoch, epoch.lines) for epoch in report.epochs] == [(1, before.head), (2, 0)]


async def test_log_that_an_operator_accepted_agrees_in_the_epoch_that_began_with_it(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    async with doctored(supervise, sprite, lambda log: edit_line(log, 3)) as loop:
        found = await diverged(loop)
        await loop.send("RESOLVE_DIVERGENCE", {"id": found.id, "accept": "sprite_service", "by": "ana"})
        await loop.until(
            lambda seen: (seen.transport.state, seen.cursor.epoch, seen.cursor.at_head) == ("sprite_service", 2, True),
            "the service's log is read",
        )
        done = await ops("verify", f"{name}/demo", "--transport", "sprite_service", "-o", "json")
        assert done.code == 0, done
        report = json.loads(done.out)
        assert [(epoch["epoch"], epoch["gaps"]) for epoch in report["epochs"]] == [(1, []), (2, [])]
        assert report["epochs"][0]["chain"] != report["epochs"][1]["chain"] == report["log"]["chain"]
        # The log that was turned down is still there for whoever looks, and is not what is believed now.
        other = await ops("verify", f"{name}/demo", "--transport", "local")
        assert other.code == 5, other
        assert "They differ: epoch 2, line 3:" in other.out


@pytest.mark.parametrize("transport", ["sprite_service", "local"])
async def test_log_that_is_as_it_was_observed_agrees_through_either_transport(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, transport: str
) -> None:
    sprite: Sprite = new_sprite(name, LONG)
    await _settled_at_head(supervise, sprite)
    done = await ops("verify", f"{name}/demo", "--transport", transport, "-o", "json")
    assert done.code == 0, done
    report = json.loads(done.out)
    on_disk = read_log(sprite.log())
    assert (report["agreed"], report["differences"]) == (True, [])
    assert (report["log"]["lines"], report["log"]["chain"]) == (on_disk.line_count, on_disk.chain)
    (epoch,) = report["epochs"]
    assert (epoch["lines"], epoch["chain"], epoch["gaps"], epoch["broughtAgain"]) == (
        on_disk.line_count, on_disk.chain, [], 0,
    )  # fmt: skip
    assert report["runs"] >= 3


async def test_line_that_was_edited_in_place_is_named(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, LONG)
    await _settled_at_head(supervise, sprite)
    log = sprite.loop_folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    edited = 7
    sprite.stop_service()  # which would notice it
    with log.open("r+b") as file:
        file.seek(sum(map(len, lines[: edited - 1])) + lines[edited - 1].index(b'"demo"'))
        file.write(b'"dem0"')

    done = await ops("verify", f"{name}/demo", "--transport", "local")
    assert done.code == 5, done
    assert f"They differ: epoch 1, line {edited}:" in done.out
    assert f"line {edited + 1}" not in done.out


async def test_rewritten_log_agrees_in_its_new_epoch(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.run().wait()
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    log: Path = sprite.loop_folder / "events.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:5]))
    await loop.until(lambda seen: seen.cursor.epoch == 2 and seen.cursor.at_head, "the new log is read")

    report = json.loads((await ops("verify", f"{name}/demo", "-o", "json")).out)
    assert report["agreed"] is True
    assert [(epoch["epoch"], epoch["gaps"]) for epoch in report["epochs"]] == [(1, []), (2, [])]
    assert report["epochs"][-1]["lines"] == 5


async def test_sprite_that_cannot_be_reached_leaves_it_undecided(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.run().wait()
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    sprite.stop_service()
    done = await ops("verify", f"{name}/demo")
    assert done.code == 7, done
    assert "cannot be read" in done.err
    assert "Histories agree with themselves" in done.out

    sprite.serve()
    sprite.write_token("another-token")
    done = await ops("verify", f"{name}/demo")
    assert done.code == 8, done


async def test_workflow_that_is_no_supervisor_is_said_to_be_none(ops: Ops, supervise: Supervisors, name: str) -> None:
    foreign = await supervise.client.start_workflow("Deploy", "x", id=f"loop:{name}:demo", task_queue="nobody's")
    done = await ops("verify", f"{name}/demo")
    await foreign.terminate()
    assert done.code == 2, done
    assert "was not started as a supervisor" in done.err

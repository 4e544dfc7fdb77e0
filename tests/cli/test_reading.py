"""`list`, `status`, `watch` and the names of loops, against a real server with canned supervisors."""

import asyncio
import json
import signal

import pytest

from contract.status import Attention, AttentionReport, Lifecycle, StatusReport
from tests.cli.canned import OBSERVED_AT, start_canned
from tests.cli.conftest import QUEUE, Place
from tests.cli.reports import report, waiting


def needing(sprite: str, code: Attention, loop_id: str = "demo") -> StatusReport:
    attention = AttentionReport(code=code, sentence="Look.")
    return report(sprite=sprite, loop_id=loop_id, attention=attention)


async def test_list_puts_the_most_urgent_first_and_needs_me_hides_the_rest(place: Place) -> None:
    async with place.worker():
        await start_canned(place.client, QUEUE, report(sprite="calm"))
        await start_canned(place.client, QUEUE, needing("crashing", Attention.CRASHED))
        await start_canned(place.client, QUEUE, needing("waiting", Attention.APPROVAL_WAITING))
        await start_canned(place.client, QUEUE, needing("strange", Attention.DIVERGED))
        everything = await place.ops("list", "-o", "json")
        mine = await place.ops("list", "--needs-me")
    assert everything.code == 0, everything
    rows = json.loads(everything.out)
    assert [row["sprite"] for row in rows] == ["strange", "crashing", "waiting", "calm"]
    assert rows[0]["loop"] == "strange/demo"
    assert {row["noWorker"] for row in rows} == {None}
    assert [line.split()[0] for line in mine.out.splitlines()[1:]] == ["strange/demo", "crashing/demo", "waiting/demo"]
    assert "4 loops; 3 need a human." in mine.err
    assert "\x1b" not in mine.out


async def test_list_of_nothing_says_how_to_begin(place: Place) -> None:
    done = await place.ops("list")
    assert (done.code, done.out) == (0, "")
    assert "ops-manager supervise" in done.err
    assert (await place.ops("list", "-o", "json")).out.strip() == "[]"


async def test_name_without_a_sprite_is_enough_where_it_is_unique(place: Place) -> None:
    async with place.worker():
        await start_canned(place.client, QUEUE, report(sprite="acme", loop_id="it's"))
        for name in ("it's", "acme/it's", "loop:acme:it's"):
            done = await place.ops("status", name)
            assert done.code == 0, done
            assert "acme/it's" in done.out


async def test_name_of_two_loops_lists_both_and_acts_on_neither(place: Place) -> None:
    async with place.worker():
        handles = [await start_canned(place.client, QUEUE, report(sprite=sprite)) for sprite in ("acme", "bob")]
        done = await place.ops("cancel", "demo", "--yes")
        messages = [await handle.query("messages") for handle in handles]
    assert done.code == 2, done
    assert "acme/demo" in done.err
    assert "bob/demo" in done.err
    assert messages == [[], []]


async def test_name_of_no_loop_exits_3_with_near_names(place: Place) -> None:
    async with place.worker():
        await start_canned(place.client, QUEUE, report())
        for name in ("dmeo", "acne/demo"):
            done = await place.ops("status", name)
            assert done.code == 3, done
            assert "acme/demo" in done.err


async def test_released_loop_is_told_apart_from_one_that_never_was(place: Place) -> None:
    async with place.worker():
        await start_canned(place.client, QUEUE, report())
        released = await place.ops("release", "acme/demo")
        assert released.code == 0, released
        assert "not touched" in released.out
        done = await place.ops("status", "acme/demo")
    assert done.code == 3
    assert "released at" in done.err


async def test_status_answers_in_json_with_the_promised_fields_and_only_data_on_stdout(place: Place) -> None:
    async with place.worker():
        await start_canned(place.client, QUEUE, waiting())
        done = await place.ops("status", "demo", "-o", "json")
        text = await place.ops("status", "demo")
    body = json.loads(done.out)
    assert done.err == ""
    assert body["lifecycle"] == "awaiting_approval"
    assert body["asOf"] == {"runId": "workflow-run", "historyLength": 42}
    assert "ops-manager approve acme/demo" in text.out
    signal_line = next(line for line in text.out.splitlines() if "temporal workflow signal" in line)
    assert f"--address {place.ops.environment['TEMPORAL_ADDRESS']}" in signal_line


async def test_without_a_worker_list_and_status_say_so_and_show_what_was_known(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, needing("acme", Attention.CRASHED), status=Lifecycle.FAILED)
        await handle.query("status")
    # The server still remembers the poller, as it does for minutes after a worker was killed.
    for arguments in (("list",), ("status", "demo")):
        done = await place.ops(*arguments)
        assert done.code == 0, done
        assert done.out.startswith("NO WORKER since ")
        assert f"shown as of {OBSERVED_AT:%Y-%m-%d %H:%M:%SZ}" in done.out
        assert "failed" in done.out
        assert "crashed" in done.out


async def test_worker_that_died_a_moment_ago_costs_no_more_than_what_is_left_of_three_seconds(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, report())
        await handle.query("status")
    await start_canned(place.client, "nobody-polls-this", report(loop_id="never"))
    for arguments in (("list",), ("status", "demo")):
        for _ in range(3):
            # Next to nothing is waited for here: what this takes is the machine's, busy as it may be with other tests.
            unavoidable = await place.ops.process("status", "never")
            done = await place.ops.process(*arguments)
            assert "NO WORKER since " in done.out
            if done.seconds < max(3.0, unavoidable.seconds + 1.5):
                break
        else:
            pytest.fail(f"{arguments} took {done.seconds:.1f} s, {unavoidable.seconds:.1f} s without a wait")


async def test_without_a_worker_json_stays_data_and_names_the_absence(place: Place) -> None:
    await start_canned(place.client, "nobody-polls-this", report())
    done = await place.ops("status", "demo", "-o", "json")
    body = json.loads(done.out)
    assert body["source"] == "search_attributes"
    assert body["lifecycle"] == "running"
    assert body["noWorker"] == {"since": None, "detail": "no worker polls its task queue"}
    assert "NO WORKER since before" in done.err
    (row,) = json.loads((await place.ops("list", "-o", "json")).out)
    assert row["noWorker"] == body["noWorker"]


async def test_without_a_worker_release_is_queued_and_happens_once_one_is_there(place: Place) -> None:
    handle = await start_canned(place.client, QUEUE, report())
    done = await place.ops("release", "demo")
    assert done.code == 9, done
    assert "queued, NOT executed" in done.out
    async with place.worker():
        with pytest.raises(Exception, match="Workflow execution failed"):
            await handle.result()


async def test_watch_prints_a_line_for_a_change_and_ends_with_ctrl_c_in_one_line(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, report())
        async with place.ops.running("watch", "demo") as watching:
            assert watching.stdout is not None
            first = (await asyncio.wait_for(watching.stdout.readline(), 30)).decode()
            await handle.signal("CANCEL_LOOP", {"by": "ana"})
            second = (await asyncio.wait_for(watching.stdout.readline(), 30)).decode()
            watching.send_signal(signal.SIGINT)
            _, err = await asyncio.wait_for(watching.communicate(), 30)
    assert "acme/demo  running (iteration_start)" in first
    assert "acme/demo  CANCEL_LOOP by ana received" in second
    assert watching.returncode == 130
    assert "Traceback" not in err.decode()
    assert "Interrupted" in err.decode()


async def test_watch_of_a_named_loop_ends_when_it_is_released(place: Place) -> None:
    async with place.worker():
        await start_canned(place.client, QUEUE, report())
        async with place.ops.running("watch", "demo") as watching:
            assert watching.stdout is not None
            await asyncio.wait_for(watching.stdout.readline(), 30)
            assert (await place.ops("release", "demo")).code == 0
            out, _ = await asyncio.wait_for(watching.communicate(), 30)
    assert out.decode().rstrip().endswith("acme/demo  is released")
    assert watching.returncode == 0


async def test_supervise_without_a_worker_is_accepted_and_exits_9(place: Place) -> None:
    begun = await place.ops("supervise", "--service-url", "http://127.0.0.1:1", "--loop", "demo")
    assert begun.code == 9, begun
    assert "127.0.0.1/demo is supervised now" in begun.out
    assert "NO WORKER for canned (no worker polls its task queue)" in begun.err
    (row,) = json.loads((await place.ops("list", "-o", "json")).out)
    assert (row["status"], row["attention"], row["transport"]) == ("unknown", "none", "sprite_service")

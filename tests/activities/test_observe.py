"""`observe` in an activity environment: through a service of the base contract, and over the sprite's own files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.bundles import LocalActivities, ServiceActivities
from activities.client import SpriteServiceClient
from contract.clock import format_utc
from contract.observation import (
    Contact,
    CursorPosition,
    Observation,
    ObserveHeartbeat,
    ObserveInput,
    Transport,
)
from sprite.control import SpriteController
from sprite.processes import ScanResult
from sprite.reader import SpriteReader
from tests.activities.support import (
    append,
    ask,
    chain_of,
    event_line,
    events_file,
    lay_end,
    lay_step,
    target,
    until,
)
from tests.peers import BasePeer, Fault, base_peer


@dataclass
class Side:
    """One transport over one repo, so that a test of it is a test of both."""

    repo: Path
    transport: Transport
    watch: Callable[[ObserveInput], Any]
    ask: Callable[..., ObserveInput]

    async def news(self, **changes: Any) -> Observation:
        return await asyncio.wait_for(self.watch(self.ask(**changes)), timeout=30)


def local_activities(repo: Path, folder: Path) -> LocalActivities:
    """The local transport over `repo`; no command is run by these tests."""
    reader = SpriteReader(repo, state_dir=folder / "state", process_scan=lambda _: ScanResult(runs=(), complete=True))
    return LocalActivities(reader, SpriteController(reader, Path("/bin/false"), state_dir=folder / "state"), "acme")


@pytest.fixture(params=[Transport.SPRITE_SERVICE, Transport.LOCAL])
async def side(
    request: pytest.FixtureRequest, repo: Path, client: SpriteServiceClient, tmp_path: Path
) -> AsyncIterator[Side]:
    if request.param is Transport.LOCAL:
        local = local_activities(repo, tmp_path)

        async def watch(asked: ObserveInput) -> Observation:
            return await ActivityEnvironment().run(local.observe, asked)

        yield Side(repo, request.param, watch, lambda **changes: ask(target(), Transport.LOCAL, **changes))
        return
    with base_peer(repo) as peer:
        bundle = ServiceActivities(client)

        async def watch(asked: ObserveInput) -> Observation:
            return await ActivityEnvironment().run(bundle.observe, asked)

        yield Side(repo, request.param, watch, lambda **changes: ask(target(peer), **changes))


async def at_head(side: Side) -> Observation:
    seen = await side.news()
    assert seen.at_head
    return seen


async def test_the_first_observation_brings_the_whole_log_and_the_chain_of_its_file(side: Side) -> None:
    seen = await side.news(cursor=CursorPosition(epoch=4))
    content = events_file(side.repo).read_bytes()
    assert [event.line for event in seen.events] == list(range(1, content.count(b"\n") + 1))
    assert (seen.cursor.epoch, seen.cursor.line, seen.cursor.chain) == (4, len(seen.events), chain_of(content))
    assert seen.at_head
    assert seen.contact is Contact.OK
    assert seen.transport is side.transport
    assert seen.snapshot is not None
    assert (seen.snapshot.status, seen.snapshot.event_count) == ("complete", len(seen.events))
    assert seen.repo_path == str(side.repo)


async def test_without_news_it_returns_only_at_the_end_of_its_time(side: Side) -> None:
    first = await at_head(side)
    began = asyncio.get_running_loop().time()
    seen = await side.news(cursor=first.cursor, known=first.digest, observe_max_s=0.7)
    assert asyncio.get_running_loop().time() - began > 0.6
    assert (seen.events, seen.digest, seen.cursor, seen.at_head) == ([], first.digest, first.cursor, True)


async def test_return_first_returns_the_first_reading_without_news(side: Side) -> None:
    first = await at_head(side)
    began = asyncio.get_running_loop().time()
    seen = await side.news(cursor=first.cursor, known=first.digest, return_first=True, first_read_delay_s=0.4)
    assert 0.4 <= asyncio.get_running_loop().time() - began < 5
    assert (seen.digest, seen.events) == (first.digest, [])
    assert seen.snapshot is not None


async def test_new_lines_end_the_wait(side: Side) -> None:
    first = await at_head(side)
    waiting = asyncio.create_task(side.news(cursor=first.cursor, known=first.digest))
    await asyncio.sleep(0.3)
    append(side.repo, event_line("loop_start", run_id="r2"))
    seen = await waiting
    assert [(event.name, event.run_id) for event in seen.events] == [("loop_start", "r2")]
    assert seen.cursor.line == first.cursor.line + 1
    assert seen.cursor.chain == chain_of(events_file(side.repo).read_bytes())


async def test_a_changed_snapshot_ends_the_wait_without_lines(side: Side) -> None:
    first = await at_head(side)
    waiting = asyncio.create_task(side.news(cursor=first.cursor, known=first.digest))
    await asyncio.sleep(0.3)
    (side.repo / ".superloop" / "state.json").unlink()
    seen = await waiting
    assert seen.events == []
    assert seen.digest != first.digest
    assert seen.snapshot is not None
    assert not seen.snapshot.state_present


async def test_a_backlog_comes_in_bounded_parts_that_join_without_a_seam(side: Side) -> None:
    append(side.repo, *(event_line(f"e{n}", n) for n in range(200)))
    cursor, known, lines, parts = CursorPosition(), None, [], 0
    while True:
        seen = await side.news(cursor=cursor, known=known, max_events=50)
        assert len(seen.events) <= 50
        lines += [event.line for event in seen.events]
        cursor, known, parts = seen.cursor, seen.digest, parts + 1
        if seen.at_head:
            break
    content = events_file(side.repo).read_bytes()
    assert lines == list(range(1, content.count(b"\n") + 1))
    assert cursor.chain == chain_of(content)
    assert parts >= 4


async def test_a_part_is_bounded_in_bytes_too(side: Side) -> None:
    seen = await side.news(max_bytes=3_000)
    assert sum(len(event.model_dump_json()) for event in seen.events) <= 3_000
    assert not seen.at_head
    assert seen.cursor.line == len(seen.events)


async def test_an_unterminated_last_line_is_not_seen_yet(side: Side) -> None:
    first = await at_head(side)
    append(side.repo, event_line("late")[:-1])
    seen = await side.news(cursor=first.cursor, known=first.digest, return_first=True)
    assert seen.events == []
    append(side.repo, "\n")
    seen = await side.news(cursor=first.cursor, known=first.digest)
    assert [event.name for event in seen.events] == ["late"]


async def test_a_shrunk_log_is_news_of_its_own(side: Side) -> None:
    first = await at_head(side)
    events_file(side.repo).write_text(event_line("loop_start"))
    seen = await side.news(cursor=first.cursor, known=first.digest)
    assert seen.reset is not None
    assert (seen.reset.reason, seen.reset.at_line, seen.reset.line_count) == ("cursor_ahead", first.cursor.line, 1)
    assert (seen.events, seen.at_head) == ([], False)


async def test_a_missing_loop_is_told_once_and_then_watched_until_it_is_there(side: Side) -> None:
    lonely = {"target": side.ask().target.model_copy(update={"loop_id": "other"})}
    told = await side.news(**lonely)
    assert told.contact is Contact.LOOP_NOT_FOUND
    assert "other" in told.detail
    waiting = asyncio.create_task(side.news(**lonely, known=told.digest))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    folder = side.repo / ".superloop" / "loops" / "other"
    folder.mkdir()
    (folder / "events.jsonl").write_text("")
    seen = await waiting
    while seen.contact is not Contact.OK:  # on the way the folder may be seen without its log
        seen = await side.news(**lonely, known=seen.digest)
    assert seen.cursor.line == 0


async def test_a_folder_without_log_is_not_ready(side: Side) -> None:
    (side.repo / ".superloop" / "loops" / "other").mkdir()
    seen = await side.news(target=side.ask().target.model_copy(update={"loop_id": "other"}))
    assert seen.contact is Contact.NOT_READY


async def test_a_half_written_file_is_waited_for(side: Side) -> None:
    first = await at_head(side)
    state = side.repo / ".superloop" / "state.json"
    content = state.read_bytes()
    state.write_bytes(b"")
    waiting = asyncio.create_task(side.news(cursor=first.cursor, known=first.digest, observe_max_s=1.5))
    await asyncio.sleep(0.2)
    state.write_bytes(content)
    seen = await waiting
    assert (seen.contact, seen.digest) == (Contact.OK, first.digest)


async def test_a_file_that_stays_broken_is_told(side: Side) -> None:
    first = await at_head(side)
    (side.repo / ".superloop" / "state.json").write_bytes(b"")
    seen = await side.news(cursor=first.cursor, known=first.digest)
    assert seen.contact is Contact.RUNTIME_ERROR
    assert seen.snapshot is None


async def test_another_repo_path_is_refused_without_applying_anything(side: Side) -> None:
    seen = await side.news(target=side.ask().target.model_copy(update={"repo_path": "/srv/elsewhere"}))
    assert seen.contact is Contact.WRONG_SPRITE
    assert (seen.events, seen.snapshot, seen.cursor) == ([], None, CursorPosition())
    assert "/srv/elsewhere" in seen.detail


# What only the service knows.


@pytest.mark.parametrize("loop_id", ["demo", "nope"])
async def test_a_service_without_an_id_is_not_believed_where_one_has_shown_its_own(
    loop_id: str, client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    known = target(peer, loop_id=loop_id, sprite_id="s-1", repo_path=str(repo), identified=True)
    seen = await ActivityEnvironment().run(ServiceActivities(client).observe, ask(known))
    assert (seen.contact, seen.events, seen.snapshot) == (Contact.WRONG_SPRITE, [], None)


async def test_a_wrong_token_is_told_and_mended_without_a_restart(client: SpriteServiceClient, peer: BasePeer) -> None:
    bundle = ServiceActivities(client)
    good, peer.token = peer.token, "another"
    seen = await ActivityEnvironment().run(bundle.observe, ask(target(peer)))
    assert seen.contact is Contact.UNAUTHORIZED
    waiting = asyncio.create_task(ActivityEnvironment().run(bundle.observe, ask(target(peer), known=seen.digest)))
    asked = len(peer.requests)
    await until(lambda: len(peer.requests) > asked + 1)
    assert not waiting.done()
    peer.token = good
    assert (await waiting).contact is Contact.OK


async def test_a_resting_loop_is_left_asleep(client: SpriteServiceClient, peer: BasePeer) -> None:
    bundle = ServiceActivities(client)
    first = await ActivityEnvironment().run(bundle.observe, ask(target(peer)))
    asked = len(peer.asked("/ops/snapshot"))
    quiet = ask(target(peer), cursor=first.cursor, known=first.digest, idle_poll_interval_s=30, observe_max_s=1)
    await ActivityEnvironment().run(bundle.observe, quiet)
    # One reading to begin with and one when its time is up; never a long poll.
    assert len(peer.asked("/ops/snapshot")) - asked == 2
    assert not any("waitSeconds" in seen.query for seen in peer.requests)


async def test_a_running_loop_of_a_service_without_long_poll_is_polled_at_the_running_interval(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    lay_step("11-kill9", 4, repo)
    # Without process evidence a run is believed for some hours after its last event, so that has to be of now.
    stamp = format_utc(datetime.now(UTC))
    lines = [event_line(name, timestamp=stamp) for name in ("loop_start", "iteration_start")]
    events_file(repo).write_text("".join(lines))
    bundle = ServiceActivities(client)
    first = await ActivityEnvironment().run(bundle.observe, ask(target(peer)))
    asked = len(peer.asked("/ops/snapshot"))
    running = ask(target(peer), cursor=first.cursor, known=first.digest, running_poll_interval_s=0.4, observe_max_s=2.0)
    await ActivityEnvironment().run(bundle.observe, running)
    readings = len(peer.asked("/ops/snapshot")) - asked
    assert 3 <= readings <= 7
    assert not any("waitSeconds" in seen.query for seen in peer.requests)


async def test_a_prompt_observer_reads_at_its_interval(client: SpriteServiceClient, peer: BasePeer) -> None:
    bundle = ServiceActivities(client)
    first = await ActivityEnvironment().run(bundle.observe, ask(target(peer)))
    asked = len(peer.asked("/ops/snapshot"))
    prompt = ask(
        target(peer), cursor=first.cursor, known=first.digest, interval_s=0.2, idle_poll_interval_s=60, observe_max_s=1
    )
    await ActivityEnvironment().run(bundle.observe, prompt)
    assert 3 <= len(peer.asked("/ops/snapshot")) - asked <= 8


async def test_a_line_that_a_foreign_service_leaves_out_is_passed_and_told(
    client: SpriteServiceClient, repo: Path
) -> None:
    append(repo, "{ torn\n", event_line("after"))
    with base_peer(repo, skips_bad_lines=True) as peer:
        seen = await ActivityEnvironment().run(ServiceActivities(client).observe, ask(target(peer)))
    bad = seen.cursor.line - 1
    assert [event.line for event in seen.events][-2:] == [bad - 1, bad + 1]
    assert (seen.unverifiable_from, seen.cursor.chain, seen.at_head) == (bad, None, True)


async def test_our_reader_shows_the_bad_line_and_keeps_the_chain(tmp_path: Path) -> None:
    repo = lay_end("02-approve", tmp_path / "repo")
    append(repo, "{ torn\n", event_line("after"))
    local = local_activities(repo, tmp_path)
    seen = await ActivityEnvironment().run(local.observe, ask(target(), Transport.LOCAL))
    assert [bad.line for bad in seen.quarantined] == [seen.cursor.line - 1]
    assert seen.unverifiable_from is None
    assert seen.cursor.chain is not None


async def test_a_rewritten_log_of_equal_length_is_found_by_its_chain(tmp_path: Path) -> None:
    repo = lay_end("02-approve", tmp_path / "repo")
    local = local_activities(repo, tmp_path)
    first = await ActivityEnvironment().run(local.observe, ask(target(), Transport.LOCAL))
    count = first.cursor.line
    events_file(repo).write_text("".join(event_line(f"other_{n}", n) for n in range(count + 5)))
    later = ask(target(), Transport.LOCAL, cursor=first.cursor, known=first.digest)
    seen = await ActivityEnvironment().run(local.observe, later)
    assert seen.reset is not None
    assert (seen.reset.reason, seen.reset.at_line, seen.reset.line_count) == ("events_rewritten", count, count + 5)


# What runs beside it.


async def test_it_heartbeats_with_what_it_knows(client: SpriteServiceClient, peer: BasePeer) -> None:
    beats: list[ObserveHeartbeat] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: beats.append(details[0])
    await environment.run(ServiceActivities(client).observe, ask(target(peer)))
    assert beats[-1].line_count == 33
    assert beats[-1].last_contact_at is not None
    assert beats[-1].transport_failures == 0


async def test_at_the_workers_shutdown_it_returns_at_once_what_it_last_saw(
    client: SpriteServiceClient, peer: BasePeer
) -> None:
    bundle = ServiceActivities(client)
    first = await ActivityEnvironment().run(bundle.observe, ask(target(peer)))
    environment = ActivityEnvironment()
    quiet = ask(target(peer), cursor=first.cursor, known=first.digest, idle_poll_interval_s=60, observe_max_s=60)
    asked = len(peer.requests)
    waiting = asyncio.create_task(environment.run(bundle.observe, quiet))
    await until(lambda: len(peer.requests) >= asked + 2)
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    environment.worker_shutdown()
    seen = await waiting
    assert asyncio.get_running_loop().time() - began < 1
    assert (seen.events, seen.digest, seen.cursor) == ([], first.digest, first.cursor)


async def test_at_a_shutdown_before_anything_was_read_it_claims_nothing(
    client: SpriteServiceClient, peer: BasePeer
) -> None:
    peer.fault = Fault.HANG
    environment = ActivityEnvironment()
    waiting = asyncio.create_task(environment.run(ServiceActivities(client).observe, ask(target(peer), known="k")))
    await until(lambda: peer.requests)
    environment.worker_shutdown()
    seen = await waiting
    assert (seen.snapshot, seen.events, seen.digest, seen.at_head) == (None, [], "", False)


async def test_a_cancelled_observer_ends_promptly(client: SpriteServiceClient, peer: BasePeer) -> None:
    peer.fault = Fault.HANG
    environment = ActivityEnvironment()
    waiting = asyncio.create_task(environment.run(ServiceActivities(client).observe, ask(target(peer))))
    await until(lambda: peer.requests)
    began = asyncio.get_running_loop().time()
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.get_running_loop().time() - began < 1


async def test_a_page_too_large_for_one_answer_is_read_in_smaller_ones(
    client: SpriteServiceClient, peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.exchange.MAX_ANSWER_BYTES", 12_000)
    seen = await ActivityEnvironment().run(ServiceActivities(client).observe, ask(target(peer)))
    assert (seen.at_head, len(seen.events)) == (True, 33)

"""D8 where no chain is shown: the log is held to the line at the cursor, by whichever observer looks next."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.bundles import LocalActivities, ServiceActivities
from activities.client import SpriteServiceClient
from contract.observation import CursorPosition, Observation, Transport
from sprite.control import SpriteController
from sprite.reader import SpriteReader
from tests.activities.support import append, ask, chain_of, event_line, events_file, target, until
from tests.control.support import fake_runtime
from tests.http.support import Service, running
from tests.peers import BasePeer, Fault, base_peer


async def observe(client: SpriteServiceClient, where: Any, seen: Observation | None = None, **changes: Any) -> Any:
    known = {"cursor": seen.cursor, "known": seen.digest} if seen else {}
    asked = ask(where, **{**known, **changes})
    return await asyncio.wait_for(ActivityEnvironment().run(ServiceActivities(client).observe, asked), timeout=30)


def replace_log(repo: Path, count: int) -> None:
    """Another log in the place of the first, written as a careful program does it."""
    scratch = repo / "new.jsonl"
    scratch.write_text("".join(event_line(f"other_{n}", n, run_id="NEW") for n in range(count)))
    scratch.replace(events_file(repo))


@pytest.mark.parametrize("more", [0, 1, 5])
async def test_a_log_replaced_between_two_observers_is_found_by_the_second(
    more: int, client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    first = await observe(client, target(peer))
    count = first.cursor.line + more
    replace_log(repo, count)
    seen = await observe(client, target(peer), first)
    assert (seen.reset.reason, seen.reset.at_line, seen.reset.line_count) == (
        "events_rewritten",
        first.cursor.line,
        count,
    )
    assert (seen.events, seen.at_head) == ([], False)


async def test_a_log_replaced_while_an_observer_watches_is_found_by_it(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    first = await observe(client, target(peer))
    waiting = asyncio.create_task(observe(client, target(peer), first))
    asked = len(peer.asked("/ops/events"))
    await until(lambda: len(peer.asked("/ops/events")) >= asked + 2)
    replace_log(repo, first.cursor.line + 5)
    assert (await waiting).reset.reason == "events_rewritten"


async def test_a_log_replaced_between_two_pages_of_one_reading_is_found(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    def replace_after_the_first_page(seen: Any) -> bool:
        if len(peer.asked("/ops/events")) == 2:
            replace_log(repo, 60)
        return False

    peer.fault, peer.faulty = Fault.HANG, replace_after_the_first_page
    seen = await observe(client, target(peer))
    assert (seen.reset.reason, seen.reset.at_line, [event.line for event in seen.events]) == (
        "events_rewritten",
        4,
        [1, 2, 3, 4],
    )


async def test_the_line_at_the_cursor_comes_with_the_page_in_one_request(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    first = await observe(client, target(peer))
    append(repo, event_line("loop_start"))
    before = len(peer.asked("/ops/events"))
    seen = await observe(client, target(peer), first)
    (asked,) = peer.asked("/ops/events")[before:]
    assert asked.query["cursor"] == str(first.cursor.line - 1)
    assert [event.name for event in seen.events] == ["loop_start"]
    assert seen.cursor.chain == chain_of(events_file(repo).read_bytes())


async def test_an_event_that_has_become_a_bad_line_is_a_rewritten_log(client: SpriteServiceClient, repo: Path) -> None:
    with base_peer(repo, skips_bad_lines=True) as peer:
        first = await observe(client, target(peer))
        lines = events_file(repo).read_text().splitlines(keepends=True)
        events_file(repo).write_text("".join([*lines[:-1], "{ torn\n", event_line("after")]))
        seen = await observe(client, target(peer), first)
    assert (seen.reset.reason, seen.reset.at_line) == ("events_rewritten", len(lines))


async def test_behind_a_bad_line_nothing_is_compared_and_nothing_is_wrong(
    client: SpriteServiceClient, repo: Path
) -> None:
    append(repo, "{ torn\n", event_line("after"))
    with base_peer(repo, skips_bad_lines=True) as peer:
        seen = await observe(client, target(peer), cursor=CursorPosition(line=34))
    assert peer.asked("/ops/events")[0].query["cursor"] == "34"
    assert ([event.name for event in seen.events], seen.reset) == (["after"], None)
    assert seen.cursor.h == seen.events[-1].h


async def test_a_service_that_only_looks_like_ours_is_asked_again_so_that_its_log_is_held_to_something(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    peer.etag = '"from-a-proxy"'
    first = await observe(client, target(peer))
    append(repo, event_line("loop_start"))
    seen = await observe(client, target(peer), first)
    assert ([event.name for event in seen.events], seen.reset) == (["loop_start"], None)
    replace_log(repo, first.cursor.line + 5)
    seen = await observe(client, target(peer), seen)
    assert seen.reset.reason == "events_rewritten"


@pytest.fixture
async def service(repo: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state") as one:
        yield one


async def through(transport: Transport, client: SpriteServiceClient, service: Service, **changes: Any) -> Observation:
    """Observe through our own service, or over the files beside it."""
    where = target(service_url=f"http://{service.host}:{service.port}")
    if transport is Transport.SPRITE_SERVICE:
        seen: Observation = await observe(client, where, **changes)
        return seen
    reader: SpriteReader = service.reader
    controller: SpriteController = service.controller
    bundle = LocalActivities(reader, controller, "acme")
    return await ActivityEnvironment().run(bundle.observe, ask(where, Transport.LOCAL, **changes))


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_lost_chain_is_taken_up_again_only_from_the_log_that_was_read(
    transport: Transport, client: SpriteServiceClient, service: Service, repo: Path
) -> None:
    first = await through(transport, client, service)
    lost = CursorPosition(line=first.cursor.line, h=first.cursor.h)
    append(repo, event_line("loop_start"))
    seen = await through(transport, client, service, cursor=lost, known=first.digest)
    assert [event.name for event in seen.events] == ["loop_start"]
    assert seen.cursor.chain == chain_of(events_file(repo).read_bytes())
    replace_log(repo, first.cursor.line + 3)
    seen = await through(transport, client, service, cursor=lost, known=first.digest)
    assert seen.reset is not None
    assert seen.reset.reason == "events_rewritten"

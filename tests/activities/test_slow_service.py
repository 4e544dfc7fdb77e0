"""A service of the base contract at the pace of the recorded one: 225 ms an event, and a log to get through."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import client as client_module
from activities import paging
from activities import reading as reading_module
from activities.bundles import ServiceActivities
from activities.client import SpriteServiceClient
from activities.paging import FIRST_EVENTS, PageSize
from contract.observation import Observation
from tests.activities.support import append, ask, chain_of, event_line, events_file, target
from tests.peers import BasePeer, Fault, base_peer

RECORDED_EVENT_S = 0.225


@pytest.fixture
def peer(repo: Path) -> Iterator[BasePeer]:
    with base_peer(repo, event_delay_s=RECORDED_EVENT_S) as service:
        yield service


async def observe(client: SpriteServiceClient, peer: BasePeer, seen: Observation | None = None) -> Observation:
    known: dict[str, Any] = {"cursor": seen.cursor, "known": seen.digest} if seen else {}
    environment = ActivityEnvironment()
    return await environment.run(ServiceActivities(client).observe, ask(target(peer), observe_max_s=60, **known))


async def ingest(client: SpriteServiceClient, peer: BasePeer) -> list[Observation]:
    """Observe, as the workflow does, until the head is reached."""
    told = [await observe(client, peer)]
    while not told[-1].at_head:
        told.append(await observe(client, peer, told[-1]))
    return told


def check_whole(told: list[Observation], repo: Path) -> None:
    content = events_file(repo).read_bytes()
    assert [event.line for seen in told for event in seen.events] == list(range(1, content.count(b"\n") + 1))
    assert told[-1].cursor.chain == chain_of(content)
    assert not any(seen.reset for seen in told)


async def test_a_log_is_ingested_at_the_recorded_pace(client: SpriteServiceClient, peer: BasePeer, repo: Path) -> None:
    told = await ingest(client, peer)
    check_whole(told, repo)
    wanted = [int(seen.query["maxEvents"]) for seen in peer.asked("/ops/events")]
    assert wanted[0] == FIRST_EVENTS
    # None of them could have run into the time limit of a read.
    assert max(wanted) * RECORDED_EVENT_S < client_module.READ_MARGIN_S


async def test_a_long_log_is_told_in_parts_instead_of_after_minutes(
    client: SpriteServiceClient, peer: BasePeer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "READING_LIMIT_S", 0.5)
    peer.event_delay_s = 0.04
    told = await ingest(client, peer)
    assert len(told) > 1
    assert [seen.at_head for seen in told] == [False] * (len(told) - 1) + [True]
    check_whole(told, repo)


async def test_a_service_far_slower_than_the_recorded_one_is_asked_for_less_until_it_answers(
    client: SpriteServiceClient, peer: BasePeer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "READ_MARGIN_S", 1.2)
    monkeypatch.setattr(paging, "PAGE_TARGET_S", 0.4)
    events_file(repo).write_text("".join(event_line(f"e{n}", n) for n in range(5)))
    peer.event_delay_s = 0.4
    check_whole(await ingest(client, peer), repo)


async def test_a_page_that_fails_takes_nothing_of_those_before_it_away(
    client: SpriteServiceClient, peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "READ_MARGIN_S", 1.0)
    peer.event_delay_s = 0.0
    peer.fault, peer.faulty = Fault.HANG, lambda asked: asked.query.get("cursor", "0") != "0"
    seen = await observe(client, peer)
    assert [event.line for event in seen.events] == [1, 2, 3, 4]
    assert not seen.at_head


async def test_a_quick_service_is_asked_for_many_events_soon(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    peer.event_delay_s = 0.0
    append(repo, *(event_line(f"e{n}", n) for n in range(400)))
    told = await ingest(client, peer)
    check_whole(told, repo)
    assert len(peer.asked("/ops/events")) < 12


@pytest.mark.parametrize(
    ("asked", "seconds", "full", "expected"),
    [
        (4, 0.9, True, 8),
        (4, 0.01, True, 16),
        (8, 1.9, True, 8),
        (8, 4.0, True, 4),
        (8, 4.0, False, 4),
        (8, 0.3, False, 8),
        (1, 30.0, True, 1),
        (1_000, 8.0, True, 250),
    ],
)
def test_the_next_page_is_one_that_takes_about_two_seconds(
    asked: int, seconds: float, full: bool, expected: int
) -> None:
    size = PageSize(asked)
    size.took(asked, seconds, full=full)
    assert size.events == expected

"""The chaos proxy: each fault is what it is called, and what passes in between passes unchanged."""

import asyncio
import itertools
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from activities.chainwalk import walk
from activities.client import SpriteServiceClient
from activities.failures import InvalidAnswer, LogMoved, NoAnswer, NotConnected
from contract.chain import read_chain
from contract.envelopes import EventsPage
from contract.errors import EnvelopeInvalid
from contract.observation import CursorPosition
from sprite.drill import ChaosProxy, Fault, Setting, seeded_steps
from sprite.drill.schedule import PASSING_FAULTS
from tests.activities.support import lay_end
from tests.cli.ops import Ops
from tests.harness_sprite import LOOP, TOKEN, Sprite, until
from tests.interop.independent import read_log
from tests.peers import BasePeer, base_peer

HEADERS = {"X-Ops-Token": TOKEN}
SNAPSHOT = f"/ops/snapshot?loopId={LOOP}"
EVENTS = f"/ops/events?loopId={LOOP}"
START = CursorPosition()


@pytest.fixture
def served(new_sprite: Any) -> Sprite:
    """A sprite whose service tells of a finished recording."""
    sprite: Sprite = new_sprite()
    lay_end("02-approve", sprite.repo)
    sprite.serve()
    return sprite


@pytest.fixture
def peer(new_sprite: Any) -> Any:
    """The same recording behind a service of the base contract."""
    sprite: Sprite = new_sprite("foreign")
    lay_end("02-approve", sprite.repo)
    with base_peer(sprite.repo, token=TOKEN, runtime=sprite.control_binary) as service:
        yield service


@pytest.fixture
async def proxy(served: Sprite) -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy.before(served.url) as standing:
        yield standing


@pytest.fixture
async def client() -> AsyncIterator[SpriteServiceClient]:
    async with SpriteServiceClient(max_loops=5) as opened:
        yield opened


async def _page(client: SpriteServiceClient, sprite: Sprite, proxy: ChaosProxy, cursor: CursorPosition) -> EventsPage:
    return await client.events(sprite.target(service_url=proxy.url), cursor, max_events=1000)


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(headers=HEADERS, timeout=20) as plain:
        return await plain.get(url)


async def test_without_a_fault_answers_pass_unchanged(served: Sprite, proxy: ChaosProxy) -> None:
    for path in (SNAPSHOT, EVENTS, "/healthz", "/ops/nowhere"):
        direct, through = await _get(served.url + path), await _get(proxy.url + path)
        assert through.status_code == direct.status_code
        assert _timeless(through.text) == _timeless(direct.text)
        assert through.headers.get("ETag") == direct.headers.get("ETag")
    assert not proxy.struck


def _timeless(text: str) -> str:
    return re.sub(r'"(emittedAt|updatedAt)": ?"[^"]*"', "", text)


async def test_what_is_asked_arrives_with_its_headers_and_body(peer: BasePeer) -> None:
    body = {"loopId": LOOP, "intent": "approve", "by": "ana", "noConfirm": True}
    async with ChaosProxy.before(peer.url) as proxy, httpx.AsyncClient(headers=HEADERS, timeout=20) as plain:
        await plain.post(f"{proxy.url}/ops/control", json=body, headers={"X-Idempotency-Key": "k"})
    (seen,) = peer.requests
    assert (seen.method, seen.path, seen.body) == ("POST", "/ops/control", body)
    assert (seen.headers["x-ops-token"], seen.headers["x-idempotency-key"]) == (TOKEN, "k")


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault.REFUSE, NotConnected),
        (Fault.CUT, NoAnswer),
        (Fault.STATUS_500, InvalidAnswer),
        (Fault.STATUS_502, InvalidAnswer),
        (Fault.STATUS_503, InvalidAnswer),
        (Fault.STATUS_429, InvalidAnswer),
        (Fault.GARBAGE, InvalidAnswer),
        (Fault.WRONG_SCHEMA, InvalidAnswer),
        (Fault.DUPLICATE_EVENTS, InvalidAnswer),
        (Fault.REORDERED_EVENTS, InvalidAnswer),
    ],
)
async def test_fault_is_a_failure_of_the_transport_while_it_stands_and_leaves_nothing_behind(
    fault: Fault, failure: type[Exception], served: Sprite, proxy: ChaosProxy, client: SpriteServiceClient
) -> None:
    whole = await _page(client, served, proxy, START)
    await proxy.set(Setting(fault))
    with pytest.raises(failure):
        await _page(client, served, proxy, START)
    assert proxy.struck[fault] or fault is Fault.REFUSE
    await proxy.set(Setting())
    assert (await _page(client, served, proxy, START)).cursor.chain == whole.cursor.chain


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a port be kept without listening")
async def test_port_is_kept_while_it_refuses(served: Sprite, proxy: ChaosProxy) -> None:
    await proxy.set(Setting(Fault.REFUSE))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", urlsplit(proxy.url).port))
    await proxy.set(Setting())
    assert (await _get(proxy.url + SNAPSHOT)).status_code == 200


@pytest.mark.parametrize("fault", [Fault.DELAY, Fault.SLOW_DRIP])
async def test_late_answer_is_whole(fault: Fault, served: Sprite, proxy: ChaosProxy) -> None:
    await proxy.set(Setting(fault, delay_s=0.05, drip_s=0.001))
    late, direct = await _get(proxy.url + SNAPSHOT), await _get(served.url + SNAPSHOT)
    assert _timeless(late.text) == _timeless(direct.text)
    assert proxy.struck[fault] == 1


async def test_black_hole_accepts_and_never_answers_also_what_was_on_its_way(
    served: Sprite, proxy: ChaosProxy, client: SpriteServiceClient
) -> None:
    waiting = asyncio.create_task(_get(f"{proxy.url}{EVENTS}&cursor=33&waitSeconds=1"))
    await asyncio.sleep(0)
    await proxy.set(Setting(Fault.BLACK_HOLE))
    asking = asyncio.create_task(_page(client, served, proxy, START))
    await until(lambda: proxy.struck[Fault.BLACK_HOLE] == 2, "both were struck")
    assert not waiting.done()
    assert not asking.done()
    await proxy.set(Setting(Fault.GARBAGE))
    with pytest.raises((NoAnswer, InvalidAnswer)):
        await asking
    with pytest.raises(httpx.RemoteProtocolError):
        await waiting


async def test_cut_command_was_done(peer: BasePeer) -> None:
    body = {"loopId": LOOP, "intent": "cancel", "by": "ana"}
    setting = Setting(Fault.CUT, paths=frozenset({"/ops/control"}))
    async with ChaosProxy.before(peer.url, setting=setting) as proxy:
        assert (await _get(proxy.url + SNAPSHOT)).status_code == 200
        async with httpx.AsyncClient(headers=HEADERS, timeout=20) as plain:
            with pytest.raises(httpx.RemoteProtocolError):
                await plain.post(f"{proxy.url}/ops/control", json=body)
    assert len(peer.asked("/ops/control")) == 1
    assert proxy.struck == {Fault.CUT: 1}


async def test_skewed_clock_moves_what_the_service_says_of_now_and_no_event(
    served: Sprite, proxy: ChaosProxy, client: SpriteServiceClient
) -> None:
    true = await client.events(served.target(), START, max_events=1000)
    await proxy.set(Setting(Fault.SKEWED_CLOCK, skew_s=86_400.0))
    off = await _page(client, served, proxy, START)
    walk(START, off)
    assert [envelope.event for envelope in off.events] == [envelope.event for envelope in true.events]
    ahead = _moment(off.events[0].emitted_at) - _moment(true.events[0].emitted_at)
    assert ahead.total_seconds() >= 86_400
    assert off.cursor.updated_at is not None
    assert _moment(off.cursor.updated_at) - _moment(true.events[0].emitted_at) >= ahead


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_skewed_events_contradict_their_raw_lines(
    served: Sprite, proxy: ChaosProxy, client: SpriteServiceClient
) -> None:
    await proxy.set(Setting(Fault.SKEWED_EVENTS))
    with pytest.raises(EnvelopeInvalid, match="its raw line is not"):
        walk(START, await _page(client, served, proxy, START))


@pytest.mark.parametrize("fault", [Fault.EDIT_LINE, Fault.DROP_LINE])
async def test_altered_log_contradicts_itself_nowhere_and_is_told_as_another_than_the_one_that_was_read(
    fault: Fault, served: Sprite, proxy: ChaosProxy, client: SpriteServiceClient
) -> None:
    page = await _page(client, served, proxy, START)
    true = walk(START, page).end
    await proxy.set(Setting(fault, line=5))
    # The service has shown its id before: an answer without it would be another's.
    known = served.target(service_url=proxy.url, sprite_id=page.sprite_id, identified=True)
    with pytest.raises(LogMoved) as moved:
        await client.events(known, true, max_events=1000)
    fewer = fault is Fault.DROP_LINE
    assert moved.value.reset.line_count == true.line - fewer
    lie = walk(START, await _page(client, served, proxy, START)).end
    assert lie.line == true.line - fewer
    assert read_chain(lie.chain)
    assert lie.chain != true.chain
    assert (await _page(client, served, proxy, lie)).events == []
    snapshot = await client.snapshot(served.target(service_url=proxy.url))
    assert snapshot.envelope.cursor.event_line_count == lie.line
    await proxy.set(Setting())
    with pytest.raises(LogMoved):
        await _page(client, served, proxy, lie)


async def test_altered_log_of_a_service_without_a_chain_has_none(peer: BasePeer) -> None:
    async with ChaosProxy.before(peer.url, setting=Setting(Fault.DROP_LINE, line=2)) as proxy:
        page = (await _get(f"{proxy.url}{EVENTS}&cursor=0&maxEvents=3")).json()
        beyond = await _get(f"{proxy.url}{EVENTS}&cursor=33")
    assert [event["cursor"]["eventLineOffset"] for event in page["events"]] == [1, 2, 3]
    assert page["cursor"]["eventLineCount"] == read_log((peer.repo / _LOG).read_bytes()).line_count - 1
    assert "chain" not in page["cursor"]
    assert beyond.status_code == 502
    assert "exceeds available events (32)" in beyond.text


_LOG = Path(".superloop") / "loops" / LOOP / "events.jsonl"


def test_seed_draws_the_same_steps_again_and_another_one_others() -> None:
    def drawn(seed: int) -> list[Any]:
        return list(itertools.islice(seeded_steps(seed), 60))

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert {step.setting.fault for step in drawn(7)} <= {None, *PASSING_FAULTS}


async def test_command_stands_before_a_service_until_it_is_stopped(served: Sprite) -> None:
    arguments = ("sprite", "chaos-proxy", "--to", served.url, "--fault", "wrong-schema")
    async with Ops().running(*arguments) as process:
        assert process.stderr is not None
        first = (await process.stderr.readline()).decode()
        url = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert url is not None, first
        assert "wrong-schema" in (await process.stderr.readline()).decode()
        assert (await _get(url[0] + SNAPSHOT)).json()["schemaVersion"] == "v99"
        process.send_signal(signal.SIGINT)
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 0
    assert "wrong-schema 1" in said


@pytest.mark.parametrize(
    "arguments",
    [("--to", "nowhere"), ("--to", "http://127.0.0.1:1", "--fault", "cut", "--seed", "1")],
)
async def test_command_that_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    done = await Ops()("sprite", "chaos-proxy", *arguments)
    assert done.code == 2
    assert "error" in done.err.lower()

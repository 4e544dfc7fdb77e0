import asyncio
import json
import socket
from pathlib import Path

import pytest

from activities import client as client_module
from activities import exchange
from activities.client import SpriteServiceClient
from activities.failures import (
    AnswerTooLarge,
    Condition,
    InvalidAnswer,
    LocalShortage,
    LogMoved,
    NoAnswer,
    NotConnected,
    TransportFailure,
)
from activities.heartbeats import RETRY_DELAYS_S
from contract.observation import Contact, CursorPosition, ObserveInput
from tests.activities.support import TOKEN_VARIABLE, chain_of, events_file, http_answer, raw_server, target, until
from tests.peers import BasePeer, Fault, base_peer

WRONG_CHAIN = "ab" * 32


async def test_the_token_travels_as_x_ops_token_only(client: SpriteServiceClient, peer: BasePeer) -> None:
    await client.snapshot(target(peer), trace_id="trace-7")
    headers = peer.requests[-1].headers
    assert headers["x-ops-token"] == peer.token
    assert "authorization" not in headers
    assert headers["x-trace-id"] == "trace-7"


@pytest.mark.parametrize(("secret", "header"), [("edge-secret", "Bearer edge-secret"), ("Basic abc", "Basic abc")])
async def test_the_edge_secret_fills_authorization(
    secret: str, header: str, client: SpriteServiceClient, peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SECRET", secret)
    await client.snapshot(target(peer, edge_auth="env:EDGE_SECRET"))
    assert peer.requests[-1].headers["authorization"] == header
    assert peer.requests[-1].headers["x-ops-token"] == peer.token


async def test_a_rotated_token_is_used_by_the_next_request(
    client: SpriteServiceClient, peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.token = "rotated"
    with pytest.raises(Condition) as refused:
        await client.snapshot(target(peer))
    assert refused.value.contact is Contact.UNAUTHORIZED
    monkeypatch.setenv(TOKEN_VARIABLE, "rotated")
    assert (await client.snapshot(target(peer))).envelope.run.status == "complete"


async def test_a_secret_that_cannot_be_read_is_unauthorized_and_nothing_is_sent(
    client: SpriteServiceClient, peer: BasePeer
) -> None:
    with pytest.raises(Condition, match="NOWHERE_SET") as refused:
        await client.snapshot(target(peer, token="env:NOWHERE_SET"))
    assert refused.value.contact is Contact.UNAUTHORIZED
    assert peer.requests == []


async def test_a_page_asks_for_the_cursor_and_shows_its_chain(client: SpriteServiceClient, peer: BasePeer) -> None:
    cursor = CursorPosition(line=3, chain=WRONG_CHAIN)
    page = await client.events(target(peer), cursor, max_events=5, wait_s=7.9, snapshot_etag="e-1")
    assert [event.cursor.event_line_offset for event in page.events] == [4, 5, 6, 7, 8]
    assert peer.requests[-1].query == {
        "loopId": "demo", "cursor": "3", "maxEvents": "5", "chain": WRONG_CHAIN, "waitSeconds": "7",
        "snapshotEtag": "e-1",
    }  # fmt: skip


async def test_a_path_prefix_of_the_service_url_is_kept(client: SpriteServiceClient, peer: BasePeer) -> None:
    with pytest.raises(Condition, match="endpoint not found") as found:
        await client.snapshot(target(peer, service_url=peer.url + "/prefix/"))
    assert peer.requests[-1].endpoint == "/prefix/ops/snapshot"
    assert found.value.contact is Contact.RUNTIME_ERROR


async def test_a_redirect_is_not_followed_and_the_token_stays_here(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    with base_peer(repo) as elsewhere:
        peer.fault, peer.redirect_to = Fault.REDIRECT, elsewhere.url + "/ops/snapshot"
        with pytest.raises(InvalidAnswer, match="redirect"):
            await client.snapshot(target(peer))
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("fault", "kind", "words", "tries_more"),
    [
        (Fault.GARBAGE, InvalidAnswer, "not JSON", False),
        (Fault.WRONG_SCHEMA, InvalidAnswer, "speaks 'v1' only", False),
        (Fault.TOO_MANY, InvalidAnswer, "429", True),
        (Fault.BAD_GATEWAY_PAGE, InvalidAnswer, "502 without the contract's error body", True),
        (Fault.CUT, NoAnswer, "broke", True),
        (Fault.DROP, NoAnswer, "broke", True),
    ],
)
async def test_a_misbehaving_service_is_a_transport_failure_and_only_a_blip_is_tried_again(
    fault: Fault,
    kind: type[TransportFailure],
    words: str,
    tries_more: bool,
    client: SpriteServiceClient,
    peer: BasePeer,
) -> None:
    peer.fault = fault
    began = asyncio.get_running_loop().time()
    with pytest.raises(kind, match=words):
        await client.snapshot(target(peer))
    assert asyncio.get_running_loop().time() - began < 1.5
    assert (len(peer.requests) > 1) is tries_more


async def test_a_blip_is_over_within_the_attempt(client: SpriteServiceClient, peer: BasePeer) -> None:
    peer.fault = Fault.BAD_GATEWAY_PAGE
    reading = asyncio.create_task(client.snapshot(target(peer)))
    await until(lambda: peer.requests)
    peer.fault = None
    assert (await reading).envelope.run.status == "complete"


async def test_a_living_service_that_refuses_is_asked_once(client: SpriteServiceClient, peer: BasePeer) -> None:
    with pytest.raises(Condition):
        await client.snapshot(target(peer, loop_id="nope"))
    assert len(peer.requests) == 1


async def test_a_refused_connection_never_was_one(client: SpriteServiceClient, peer: BasePeer) -> None:
    peer.stop()
    with pytest.raises(NotConnected, match="cannot connect to http://127"):
        await client.snapshot(target(peer))


async def test_a_silent_service_is_given_up(
    client: SpriteServiceClient, peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "READ_MARGIN_S", 0.2)
    peer.fault = Fault.HANG
    with pytest.raises(NoAnswer, match="did not answer in time"):
        await client.snapshot(target(peer))
    assert len(peer.requests) == 1


async def test_an_answer_beyond_the_bound_is_not_taken(
    client: SpriteServiceClient, peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_ANSWER_BYTES", 1_000)
    with pytest.raises(AnswerTooLarge):
        await client.snapshot(target(peer))


async def test_a_slow_drip_ends(client: SpriteServiceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READ_MARGIN_S", "BODY_TIMEOUT_S", "CONNECT_TIMEOUT_S", "POOL_TIMEOUT_S"):
        monkeypatch.setattr(client_module, name, 0.2)
    async with raw_server(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 1_000, drip_s=0.05) as url:
        with pytest.raises(NoAnswer, match="did not finish"):
            await client.snapshot(target(service_url=url))


def test_three_attempts_at_a_dripping_service_and_the_pauses_between_them_end_within_the_minute() -> None:
    connected = client_module.POOL_TIMEOUT_S + client_module.CONNECT_TIMEOUT_S
    attempt = client_module.BLIP_BUDGET_S + connected + client_module.READ_MARGIN_S + client_module.BODY_TIMEOUT_S
    limit = ObserveInput.model_fields["transport_failure_limit"].default
    assert limit * attempt + sum(RETRY_DELAYS_S[: limit - 1]) <= 60


async def test_something_that_is_no_http_is_a_protocol_failure(client: SpriteServiceClient) -> None:
    async with raw_server(b"SSH-2.0-OpenSSH_9.6\r\n") as url:
        with pytest.raises(NoAnswer, match="broke"):
            await client.snapshot(target(service_url=url))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "no service URL"),
        ("ftp://127.0.0.1/", "UnsupportedProtocol"),
        ("http://ana:hunter2@127.0.0.1/", "edge-auth"),
        ("http://[::1", "not valid"),
    ],
)
async def test_an_unusable_url_is_explained_without_its_secrets(
    url: str | None, words: str, client: SpriteServiceClient
) -> None:
    with pytest.raises(NotConnected, match=words) as refused:
        await client.snapshot(target(service_url=url))
    assert "hunter2" not in str(refused.value)


async def test_no_free_connection_is_nobodys_failure(peer: BasePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "POOL_TIMEOUT_S", 0.1)
    peer.fault, peer.faulty = Fault.HANG, lambda seen: seen.endpoint == "/ops/events"
    async with SpriteServiceClient(max_loops=-49) as narrow:  # a pool of one
        polling = asyncio.create_task(narrow.events(target(peer), CursorPosition(), max_events=1, wait_s=20))
        await until(lambda: peer.asked("/ops/events"))
        with pytest.raises(LocalShortage):
            await narrow.snapshot(target(peer))
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


async def test_another_sprite_is_recognised_even_by_its_errors(client: SpriteServiceClient) -> None:
    body = {"ok": False, "error": {"code": "loop_not_found", "message": "no"}, "spriteId": "another"}
    async with raw_server(http_answer(404, body)) as url:
        with pytest.raises(Condition) as refused:
            await client.snapshot(target(service_url=url, sprite_id="mine"))
    assert refused.value.contact is Contact.WRONG_SPRITE


async def test_a_lenient_answer_to_a_cursor_beyond_the_end_is_a_moved_log(client: SpriteServiceClient) -> None:
    body = {
        "ok": True, "schemaVersion": "v1", "source": {"repoPath": "/r", "loopId": "demo"}, "events": [],
        "cursor": {"eventLineOffset": 3, "eventLineCount": 3},
    }  # fmt: skip
    async with raw_server(http_answer(200, body)) as url:
        with pytest.raises(LogMoved) as moved:
            await client.events(target(service_url=url), CursorPosition(line=9), max_events=10)
    assert (moved.value.reset.at_line, moved.value.reset.line_count) == (9, 3)


async def test_the_etag_is_taken_without_its_dress(client: SpriteServiceClient, peer: BasePeer) -> None:
    await client.snapshot(target(peer))
    envelope = peer.answer(peer.requests[-1])[1]
    async with raw_server(http_answer(200, envelope, ETag='W/"abc"')) as url:
        assert (await client.snapshot(target(service_url=url))).etag == "abc"


async def test_a_command_never_travels_on_a_kept_connection(client: SpriteServiceClient) -> None:
    ports: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for key in ("k1", "k2"):
        await client.control(target(service_url=url), {"intent": "cancel"}, key=key, trace_id="t")
    server.close()
    assert len(set(ports)) == 2


async def test_a_real_log_read_page_by_page_gives_the_chain_of_its_file(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    content = events_file(repo).read_bytes()
    raws = []
    line = 0
    while line < content.count(b"\n"):
        page = await client.events(target(peer), CursorPosition(line=line), max_events=7)
        raws += [event.event.raw for event in page.events]
        line = page.cursor.event_line_offset
    assert chain_of(b"".join(json.dumps(raw).encode() + b"\n" for raw in raws)) == chain_of(content)


async def test_an_address_that_accepts_nothing_is_given_up_within_the_connect_timeout(
    client: SpriteServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        waiting = []
        for _ in range(4):  # fill the queue of connections that nobody accepts
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            waiting.append(filler)
        with pytest.raises((NotConnected, NoAnswer)):
            await client.snapshot(target(service_url=url))
        for filler in waiting:
            filler.close()


async def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with SpriteServiceClient(max_loops=1) as client:
        assert (await client.snapshot(target(peer))).envelope.run.status == "complete"
        with pytest.raises(NotConnected):  # but it is used for any other, here in vain
            await client.snapshot(target(service_url="http://sprite.invalid"))

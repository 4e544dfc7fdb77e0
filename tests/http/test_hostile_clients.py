"""Slow and hostile clients cost bounded time and memory, and get a clear answer where they can (D21)."""

import asyncio
import json
import socket
import time
from pathlib import Path

import pytest

from sprite.http import ServiceSettings
from sprite.http.protocol import _BoundedProtocol
from tests.control.support import append, effects, eventually
from tests.http.conftest import QUICK
from tests.http.support import Raw, Service, running

TOKEN_LINE = "X-Ops-Token: test-token\r\n"
HEAD = f"POST /ops/control HTTP/1.1\r\nHost: x\r\n{TOKEN_LINE}"
GET_HEALTH = f"GET /healthz HTTP/1.1\r\nHost: x\r\n{TOKEN_LINE}\r\n"
CONTROL = json.dumps({"loopId": "demo", "intent": "approve", "noConfirm": True}).encode()


async def refusal(raw: Raw) -> tuple[int, str]:
    """Status and error code of the next answer."""
    status, _, body = await raw.answer()
    return status, json.loads(body)["error"]["code"]


async def test_body_declared_too_large_is_refused_before_it_is_sent(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send(f"{HEAD}Content-Length: 70000\r\nExpect: 100-continue\r\n\r\n")

    assert await refusal(raw) == (413, "payload_too_large")
    assert await raw.end() == b""


async def test_body_of_the_largest_size_is_read(shared_quick: Service) -> None:
    body = CONTROL + b" " * (64 * 1024 - len(CONTROL))

    assert (await shared_quick.control(body)).status_code == 200
    assert (await shared_quick.control(body + b" ")).status_code == 413


async def test_endless_chunked_body_is_cut_off(quick: Service, runtime: Path) -> None:
    raw = await quick.connect()
    await raw.send(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n")
    started = time.monotonic()

    async def send_for_ever() -> None:
        while True:
            await raw.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_for_ever(), 20)

    assert time.monotonic() - started < 10
    assert effects(runtime) == []
    assert (await quick.get("/healthz")).status_code == 200


async def test_endless_chunked_body_is_told_that_it_is_too_large(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n" + "8000\r\n" + "x" * 0x8000 + "\r\n")
    await raw.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    assert await refusal(raw) == (413, "payload_too_large")


async def test_chunked_body_of_usual_size_is_read(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    chunk = f"{len(CONTROL):x}\r\n".encode() + CONTROL + b"\r\n0\r\n\r\n"
    await raw.send(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)

    status, _, _ = await raw.answer()
    assert status == 200


async def test_body_shorter_than_declared_times_out_and_does_nothing(quick: Service, runtime: Path) -> None:
    raw = await quick.connect()
    started = time.monotonic()
    await raw.send(f"{HEAD}Content-Length: {len(CONTROL) + 5}\r\n\r\n".encode() + CONTROL)

    assert await refusal(raw) == (408, "request_timeout")
    assert time.monotonic() - started < 15
    assert await raw.end() == b""
    assert effects(runtime) == []


async def test_body_that_drips_is_cut_off_however_long_it_keeps_coming(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send(f"{HEAD}Content-Length: 60000\r\n\r\n")

    async def drip() -> None:
        while True:
            await raw.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    try:
        assert await refusal(raw) == (408, "request_timeout")
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_body_shorter_than_declared_of_a_client_that_leaves_does_nothing(quick: Service, runtime: Path) -> None:
    raw = await quick.connect()
    await raw.send(f"{HEAD}Content-Length: {len(CONTROL) + 5}\r\n\r\n".encode() + CONTROL)
    await raw.close()

    await eventually(lambda: not quick.server.server_state.tasks, "the request is over")
    assert effects(runtime) == []


async def test_body_longer_than_declared_is_not_taken_for_part_of_it(quick: Service, runtime: Path) -> None:
    raw = await quick.connect()
    await raw.send(f"{HEAD}Content-Length: {len(CONTROL)}\r\n\r\n".encode() + CONTROL + b"and more\r\n\r\n")

    status, _, _ = await raw.answer()
    assert status == 200
    assert await refusal(raw) == (400, "invalid_request")
    assert len(effects(runtime)) == 1


@pytest.mark.parametrize("order", [1, -1])
async def test_request_framed_in_two_ways_is_refused_and_its_connection_closed(
    quick: Service, runtime: Path, order: int
) -> None:
    framing = [f"Content-Length: {len(CONTROL)}\r\n", "Transfer-Encoding: chunked\r\n"][::order]
    chunks = f"{len(CONTROL):x}\r\n".encode() + CONTROL + b"\r\n0\r\n\r\n"
    raw = await quick.connect()
    await raw.send(f"{HEAD}{''.join(framing)}\r\n".encode() + chunks + GET_HEALTH.encode())

    status, headers, body = await raw.answer()
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_request")
    assert headers["connection"] == "close"
    assert await raw.end() == b""
    assert effects(runtime) == []


@pytest.mark.parametrize("length", ["-1", "abc", "1, 2", "99999999999999999999999", "1e3", ""])
async def test_content_length_that_is_no_length_is_refused(quick: Service, runtime: Path, length: str) -> None:
    raw = await quick.connect()
    await raw.send(f"{HEAD}Content-Length: {length}\r\n\r\n".encode() + CONTROL)

    status, code = await refusal(raw)
    assert (status, code) in [(400, "invalid_request"), (413, "payload_too_large")]
    assert effects(runtime) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # a TLS client
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"G\x00T /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"x" * 200_000,
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200_000,
    ],
)
async def test_what_is_not_http_gets_a_clear_answer_and_the_connection_ends(
    shared_quick: Service, garbage: bytes
) -> None:
    raw = await shared_quick.connect()
    await raw.send(garbage)

    assert await refusal(raw) == (400, "invalid_request")
    assert await raw.end() == b""


async def test_request_head_that_never_ends_is_cut_off(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    started = time.monotonic()
    await raw.send("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")

    async def drip() -> None:
        while True:
            await raw.send(b"x")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    try:
        assert await refusal(raw) == (408, "request_timeout")
        assert time.monotonic() - started < 15
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_second_request_head_on_a_connection_is_timed_as_well(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send(GET_HEALTH)
    assert (await raw.answer())[0] == 200

    await raw.send("GET /heal")

    assert await refusal(raw) == (408, "request_timeout")


async def test_connection_without_a_request_is_closed_in_silence(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    started = time.monotonic()

    assert await raw.end() == b""
    assert 0.3 < time.monotonic() - started < 15


async def test_connection_that_stays_idle_after_an_answer_is_closed(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send(GET_HEALTH)
    assert (await raw.answer())[0] == 200

    assert await raw.end() == b""


async def test_pipelined_requests_are_answered_in_order(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send(GET_HEALTH * 3 + GET_HEALTH.replace("healthz", "nowhere"))

    assert [(await raw.answer())[0] for _ in range(4)] == [200, 200, 200, 404]


async def test_body_on_a_get_request_does_not_keep_the_connection(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{TOKEN_LINE}Content-Length: 1000000000\r\n\r\n")
    status, headers, _ = await raw.answer()

    assert (status, headers["connection"]) == (200, "close")
    assert await raw.end() == b""


async def test_unauthorised_body_is_never_read(shared_quick: Service) -> None:
    raw = await shared_quick.connect()
    await raw.send("POST /ops/control HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n")

    assert await refusal(raw) == (401, "unauthorized")
    assert await raw.end() == b""


async def test_answer_arrives_although_the_client_is_still_sending(shared_quick: Service) -> None:
    response = await shared_quick.client.post("/ops/control", content=b"x" * 3_000_000)
    assert response.status_code == 401

    too_large = await shared_quick.control(b"x" * 3_000_000)
    assert too_large.status_code == 413


async def test_flood_of_idle_connections_pushes_out_its_own(repo: Path, runtime: Path, tmp_path: Path) -> None:
    # With the time limits of production: here it is their number that pushes them out.
    limits = ServiceSettings(max_connections=20)
    async with running(repo, runtime, tmp_path / "state", settings=limits) as service:
        idle = [await service.connect() for _ in range(limits.max_connections + 30)]

        for _ in range(5):
            assert (await service.get("/healthz")).status_code == 200

        told = await idle[0].end()
        assert b" 503 " in told
        assert b'"code": "not_ready"' in told
        assert len(service.server.server_state.connections) <= limits.max_connections + 1


async def test_connection_that_pushes_out_one_that_just_left_is_timed_like_any_other(
    quick: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, connections = (quick.host, quick.port), quick.server.server_state.connections
    old = [socket.create_connection(address) for _ in range(QUICK.max_connections)]
    for one in old:
        one.sendall(b"GET / HT")
    await eventually(
        lambda: sum(bool(one.conn.trailing_data[0]) for one in connections) == len(old),  # type: ignore[union-attr]
        "all of them have begun a request",
    )
    made = _BoundedProtocol.connection_made

    def made_just_after_a_departure(connection: _BoundedProtocol, transport: asyncio.Transport) -> None:
        old.pop(0).close()  # the kernel knows at once, the event loop at its next turn
        made(connection, transport)

    monkeypatch.setattr(_BoundedProtocol, "connection_made", made_just_after_a_departure)
    new = [await quick.connect() for _ in range(8)]

    assert await asyncio.gather(*(raw.end() for raw in new)) == [b""] * len(new)
    for one in old:
        one.close()
    await eventually(lambda: not connections, "nothing is left")


async def test_flood_of_unauthorised_requests_does_not_lock_out_who_has_the_token(quick: Service) -> None:
    for _ in range(QUICK.max_connections * 2):
        raw = await quick.connect()
        await raw.send("POST /ops/control HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n")

    started = time.monotonic()
    assert (await quick.get("/healthz")).status_code == 200
    assert time.monotonic() - started < 15


async def test_connections_with_authorised_requests_are_never_pushed_out(quick: Service, repo: Path) -> None:
    path = "/ops/events?loopId=demo&cursor=1&waitSeconds=20"
    polls = []
    for _ in range(QUICK.max_connections):
        raw = await quick.connect()
        await raw.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{TOKEN_LINE}\r\n")
        polls.append(raw)
    tasks = quick.server.server_state.tasks
    await eventually(lambda: len(tasks) == QUICK.max_connections, "all of them wait")

    one_too_many = await quick.connect()
    assert await refusal(one_too_many) == (503, "not_ready")

    append(repo, {"event": "role_start", "run_id": "R1"})
    assert [(await raw.answer())[0] for raw in polls] == [200] * QUICK.max_connections


async def test_client_that_does_not_read_its_answer_is_dropped(repo: Path, runtime: Path, tmp_path: Path) -> None:
    append(repo, *[{"event": "role_start", "run_id": "R1", "data": {"text": "x" * 30_000}}] * 400)
    limits = ServiceSettings(write_window_s=0.5)
    async with running(repo, runtime, tmp_path / "state", settings=limits) as service:
        raw = await service.connect()
        raw._reader._transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(f"GET /ops/events?loopId=demo HTTP/1.1\r\nHost: x\r\n{TOKEN_LINE}\r\n")
        tasks = service.server.server_state.tasks
        await eventually(lambda: tasks, "the page is being sent")

        await eventually(lambda: not tasks, "the connection was given up", timeout_s=10)
        assert not service.server.server_state.connections


async def test_deeply_nested_json_is_refused_like_any_other(shared_quick: Service) -> None:
    response = await shared_quick.control(b'{"loopId":' + b"[" * 60_000)

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")

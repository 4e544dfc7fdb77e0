"""What the tests of the activities share: a repo to look at, inputs, and an independent chain."""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import rfc8785

from contract.observation import CursorPosition, ObserveInput, Target, Transport
from tests.peers import TOKEN, BasePeer
from tests.recordings.unpack import recordings_root

TOKEN_VARIABLE = "ACTIVITIES_TEST_TOKEN"
LOOP = "demo"


def token_in(monkeypatch: Any, value: str = TOKEN) -> None:
    """Put the token where the references of `target` look for it."""
    monkeypatch.setenv(TOKEN_VARIABLE, value)


def lay_step(scenario: str, number: int, repo: Path) -> Path:
    """Lay the artifacts of a recorded step into `repo` (replacing what was there), and return it."""
    source = (recordings_root() / scenario) / f"step-{number:04}" / ".superloop"
    root = repo / ".superloop"
    if root.exists():
        shutil.rmtree(root)
    shutil.copytree(source, root)
    return repo


def last_step(scenario: str) -> int:
    """The number of the last captured step that has a folder."""
    return max(int(path.name[5:]) for path in (recordings_root() / scenario).glob("step-*"))


def lay_end(scenario: str, repo: Path) -> Path:
    """Lay the artifacts that a recording ended with into `repo`."""
    repo.mkdir(parents=True, exist_ok=True)
    return lay_step(scenario, last_step(scenario), repo)


def events_file(repo: Path) -> Path:
    """The event log."""
    return repo / ".superloop" / "loops" / LOOP / "events.jsonl"


def event_line(name: str, n: int = 0, **fields: Any) -> str:
    """A line for the event log."""
    event = {"timestamp": f"2026-11-22T08:00:{n % 60:02}Z", "event": name, "loop_id": LOOP, "run_id": "r", **fields}
    return json.dumps(event, separators=(",", ":")) + "\n"


def append(repo: Path, *lines: str) -> None:
    """Append whole lines to the event log."""
    with events_file(repo).open("a", encoding="utf-8") as log:
        log.writelines(lines)


def chain_of(content: bytes) -> str:
    """The chain over a log of good lines, computed apart from the code under test."""
    chain = bytes(32)
    for line in content.split(b"\n")[:-1]:
        h = hashlib.sha256(rfc8785.dumps(_doubles(json.loads(line)))).digest()
        chain = hashlib.sha256(chain + h).digest()
    return chain.hex()


def _doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


async def until(condition: Callable[[], Any], *, timeout_s: float = 20.0) -> None:
    """Wait until something outside this event loop has happened."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other threads and processes
            await asyncio.sleep(0.005)


def target(peer: BasePeer | None = None, **changes: Any) -> Target:
    """The loop behind `peer`, with the token by reference."""
    given: dict[str, Any] = {"sprite": "acme", "loop_id": LOOP, "token": f"env:{TOKEN_VARIABLE}"}
    if peer is not None:
        given["service_url"] = peer.url
    return Target(**{**given, **changes})


def ask(where: Target, transport: Transport = Transport.SPRITE_SERVICE, **changes: Any) -> ObserveInput:
    """An input of `observe` with short intervals."""
    given: dict[str, Any] = {
        "target": where,
        "transport": transport,
        "observer": 1,
        "cursor": CursorPosition(),
        "observe_max_s": 10.0,
        "idle_poll_interval_s": 0.1,
        "running_poll_interval_s": 0.1,
        "long_poll_wait_s": 2.0,
    }
    return ObserveInput(**{**given, **changes})


@asynccontextmanager
async def raw_server(answer: bytes, *, drip_s: float = 0.0, asked: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that gives every request the same bytes, whole or one by one; `asked` collects the heads."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        if asked is not None:
            asked.append(head)
        try:
            for piece in [answer] if not drip_s else [bytes([byte]) for byte in answer]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(drip_s)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()


def http_answer(status: int, body: Any, **headers: str) -> bytes:
    """An HTTP answer as bytes; underscores in the names of headers stand for hyphens."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Length": str(len(content)), "Connection": "close", **headers}
    head = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join([*head, "", ""]).encode() + content

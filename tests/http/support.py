"""The real service on a real socket, in this process or in one of its own."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sprite.control import SpriteController
from sprite.http import ServiceSettings
from sprite.http.app import create_app
from sprite.http.server import SpriteServer, address_of, bind
from sprite.reader import SpriteReader
from tests.http.documented import check_documented

ROOT = Path(__file__).parents[2]
TOKEN = "test-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RUNTIME = 'if [ "$1" = --version ]; then echo 0.6.1; exit 0; fi\n'
"""How the body of a fake runtime begins that `sprite serve` accepts."""
SERVE = "from cli.sprite_serve import sprite_serve; sprite_serve()"


@dataclass
class Service:
    """A service that runs in the test's event loop."""

    reader: SpriteReader
    controller: SpriteController
    server: SpriteServer
    host: str
    port: int
    client: httpx.AsyncClient
    opened: list["Raw"] = field(default_factory=list)

    def stop(self) -> None:
        """As SIGTERM does."""
        self.server.stop()

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """GET with the token."""
        return await self.client.get(path, headers={**BEARER, **headers})

    async def control(self, body: object, **headers: str) -> httpx.Response:
        """POST a control request with the token."""
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return await self.client.post("/ops/control", content=content, headers={**BEARER, **headers})

    async def connect(self) -> "Raw":
        """A bare connection; closed with the service at the latest."""
        self.opened.append(Raw(*await asyncio.open_connection(self.host, self.port)))
        return self.opened[-1]


class Raw:
    """A bare TCP connection to a service, for clients that HTTP libraries would not let one be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes | str) -> None:
        """Send bytes as they are."""
        self._writer.write(data.encode() if isinstance(data, str) else data)
        await self._writer.drain()

    async def answer(self, *, timeout_s: float = 10.0) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        async with asyncio.timeout(timeout_s):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, body

    async def end(self, *, timeout_s: float = 10.0) -> bytes:
        """What still comes until the service closes the connection."""
        async with asyncio.timeout(timeout_s):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        """Close our side, at once."""
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def running(
    repo: Path, binary: Path, state_dir: Path, *, settings: ServiceSettings | None = None, **control: Any
) -> AsyncIterator[Service]:
    """The service of `repo` on a free port of the loopback interface."""
    settings = settings or ServiceSettings()
    reader = SpriteReader(repo, state_dir=state_dir)
    controller = SpriteController(reader, binary, state_dir=state_dir, **control)
    stopping, started = asyncio.Event(), asyncio.Event()
    app = create_app(reader, controller, TOKEN, settings=settings, stopping=stopping)
    server = SpriteServer(app, settings, stopping, when_started=started.set)
    listener = bind("127.0.0.1", 0)
    host, port = address_of(listener)
    serving = asyncio.create_task(server.serve([listener]))
    await started.wait()
    try:
        # A pool without limit: a test that waits for the client's own pool says nothing about the service.
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}",
            timeout=40.0,
            trust_env=False,
            limits=limits,
            event_hooks={"response": [check_documented]},
        ) as client:
            service = Service(reader, controller, server, host, port, client)
            yield service
            for raw in service.opened:
                await raw.close()
    finally:
        server.stop()
        await serving
        controller.close()


class ServiceProcess:
    """`ops-manager sprite serve` in a process of its own; collects what it says on stderr."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._serving = threading.Event()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("serving "):
                self._serving.set()
        self._serving.set()

    @property
    def port(self) -> int:
        """The port it says it serves on."""
        assert self._serving.wait(30), self.lines
        match = re.search(r"^serving .* on http://127\.0\.0\.1:(\d+) \(sprite [\w-]+\)$", "\n".join(self.lines), re.M)
        assert match, self.lines
        return int(match.group(1))

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=40)
        self.close()
        return code

    def close(self) -> None:
        """Kill what still runs, and read the rest of what it said."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reading.join(timeout=10)
        if self.process.stderr is not None:
            self.process.stderr.close()


@contextlib.contextmanager
def serving_process(
    repo: Path, binary: Path, folder: Path, *options: str, token: str = TOKEN, max_files: int | None = None
) -> Iterator[ServiceProcess]:
    """The service in a process of its own, on a free port; it may have `max_files` open at a time."""
    serve = SERVE
    if max_files:
        serve = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({max_files}, {max_files})); {SERVE}"
    token_file = folder / "service.token"
    token_file.write_text(f"{token}\n")
    token_file.chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-c", serve, "--repo", str(repo), "--port", "0", "--token-file", str(token_file), *options],
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SUPERLOOP_BIN": str(binary),
             "OPS_MANAGER_STATE_DIR": str(folder / "state")},
    )  # fmt: skip
    service = ServiceProcess(process)
    try:
        yield service
    finally:
        service.close()


def get(port: int, path: str, token: str = TOKEN, **options: Any) -> httpx.Response:
    """GET from a service process."""
    headers = {"X-Ops-Token": token, **options.pop("headers", {})}
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, trust_env=False, timeout=40, **options)


def post(port: int, body: dict[str, Any], token: str = TOKEN) -> httpx.Response:
    """POST a control request to a service process."""
    url = f"http://127.0.0.1:{port}/ops/control"
    return httpx.post(url, json=body, headers={"X-Ops-Token": token}, trust_env=False, timeout=40)

"""A sprite for tests: a repo with the stand-in runtime, its HTTP service and its local worker, all of them real.

Control runs the runtime through a launcher that writes down every command, so that a test can count effects outside of
what anybody reports. Everything that is started here is ended here, by its own process id.
"""

import asyncio
import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx
from temporalio.client import Client
from temporalio.worker import Worker

from activities.bundles import LocalActivities
from contract.identifiers import local_task_queue
from contract.observation import Target
from sprite.control import SpriteController
from sprite.http import create_app
from sprite.http.server import SpriteServer, bind
from sprite.http.settings import ServiceSettings
from sprite.reader import SpriteReader
from sprite.standin import FAST_PACE_MS, install_runtime, prepare_repo
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "a-token-for-tests"
LOOP = "demo"
QUEUE = "house"
TIMEOUT_S = 60.0
GRACE = timedelta(seconds=10)

Activity = Callable[..., Any]
Scenario = Mapping[str, Any]


def loops(**scripts: Mapping[str, Any]) -> Scenario:
    """A scenario at test pace: what each loop does."""
    return {"pace_ms": FAST_PACE_MS, "loops": scripts}


def runs(*iterations_of_runs: Sequence[Mapping[str, Any]], **settings: Any) -> dict[str, Any]:
    """The script of one loop: the iterations of each of its runs."""
    return {**settings, "runs": [{"iterations": list(iterations)} for iterations in iterations_of_runs]}


CANDIDATE = {"outcome": "candidate"}
CONTINUE = {"outcome": "continue"}
HANG = {"outcome": "hang", "role": "implementer"}
WAITING = loops(demo=runs([CANDIDATE], approval_required=True))
"""The first run asks for an approval."""
HANGING = loops(demo=runs([HANG]))
"""Every run works until it is ended."""
COMPLETING = loops(demo=runs([CANDIDATE]))


class Sprite:
    """One sprite in `folder`. Use it as a context manager: its processes end with the block."""

    def __init__(self, folder: Path, name: str, scenario: Scenario | None = None, *, loop_ids: Sequence[str] = ()):
        self.name = name
        self.folder = folder
        self.repo = prepare_repo(folder / "repo", scenario or {"pace_ms": FAST_PACE_MS}, loops=list(loop_ids) or None)
        self.state_dir = folder / "state"
        self.runtime = install_runtime(folder / "bin")
        self.control_log = folder / "control.log"
        self.control_binary = self._recording_launcher()
        self.token_file = folder / "token"
        self.write_token(TOKEN)
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._service: _ServiceThread | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_service()
        for process in reversed(self._processes):
            end(process)

    def _recording_launcher(self) -> Path:
        path = self.folder / "control" / "superloop.sh"
        path.parent.mkdir(parents=True, exist_ok=True)
        log, runtime = shlex.quote(str(self.control_log)), shlex.quote(str(self.runtime))
        path.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {runtime} "$@"\n')
        path.chmod(0o755)
        return path

    # What is in the sprite

    @property
    def loop_folder(self) -> Path:
        """Where the artifacts of the loop `demo` are."""
        return self.repo / ".superloop" / "loops" / LOOP

    def log(self, loop_id: str = LOOP) -> bytes:
        """The event log as it is on disk; empty while there is none."""
        path = self.repo / ".superloop" / "loops" / loop_id / "events.jsonl"
        return path.read_bytes() if path.exists() else b""

    def events(self, loop_id: str = LOOP) -> list[dict[str, Any]]:
        """The events of the terminated lines."""
        return [json.loads(line) for line in self.log(loop_id).split(b"\n")[:-1]]

    def lines_of(self, name: str, loop_id: str = LOOP) -> list[int]:
        """The numbers of the lines that hold an event of this name."""
        return [number for number, event in enumerate(self.events(loop_id), 1) if event["event"] == name]

    def decisions(self, loop_id: str = LOOP) -> list[dict[str, Any]]:
        """The runtime's own record of approvals and rejections."""
        path = self.repo / ".superloop" / "loops" / loop_id / "decisions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def commands(self, word: str | None = None) -> list[str]:
        """The runtime's commands that control ran (all, or those that begin with `word`)."""
        if not self.control_log.exists():
            return []
        ran = [line for line in self.control_log.read_text().splitlines() if line != "--version"]
        return [line for line in ran if word is None or line.split()[0] == word]

    @property
    def state(self) -> dict[str, Any] | None:
        """state.json; None while it is missing or half written."""
        try:
            read = json.loads((self.repo / ".superloop" / "state.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return read if isinstance(read, dict) else None

    # What a person does in it

    def run(self, loop_id: str = LOOP) -> "subprocess.Popen[bytes]":
        """Start a run of a loop, as the leader of its own group."""
        return self.start([str(self.runtime), "run", "--repo", str(self.repo), "--loop", loop_id])

    def superloop(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the runtime to its end."""
        argv = [str(self.runtime), command, "--repo", str(self.repo), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)

    def start(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start any process in the background; it is ended with the sprite."""
        with (self.folder / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
            )
        self._processes.append(process)
        return process

    def kill_runs(self) -> None:
        """SIGKILL everything that was started in the background and still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()

    async def until(self, condition: Any, what: str, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until `condition()` holds for what is on disk."""
        await until(condition, f"{self.name}: {what}; last events {self.events()[-3:]}", timeout_s=timeout_s)

    async def until_event(self, name: str, count: int = 1, loop_id: str = LOOP) -> None:
        """Wait until the log holds so many events of this name."""
        await self.until(lambda: len(self.lines_of(name, loop_id)) >= count, f"{count} {name} of {loop_id}")

    async def until_role_works(self, role: str = "implementer", loop_id: str = LOOP) -> None:
        """Wait until `role` is at work."""

        def works() -> bool:
            last = (self.events(loop_id) or [{}])[-1]
            return (last.get("event"), last.get("role")) == ("role_start", role)

        await self.until(works, f"{role} works")

    # Its service

    @property
    def url(self) -> str:
        """Where the service listens, or would."""
        return f"http://127.0.0.1:{self.port}"

    def write_token(self, token: str, path: Path | None = None) -> None:
        """Write the token file of the manager (or another one), readable by its owner only."""
        path = path or self.token_file
        path.touch(mode=0o600)
        path.write_text(token + "\n")

    def target(self, loop_id: str = LOOP, **changes: Any) -> Target:
        """The loop as a supervisor is told of it: through the service."""
        given = {"sprite": self.name, "loop_id": loop_id, "service_url": self.url, "token": f"file:{self.token_file}"}
        return Target(**{**given, **changes})

    def local_target(self, loop_id: str = LOOP) -> Target:
        """The loop as a supervisor is told of it where there is no service."""
        return Target(sprite=self.name, loop_id=loop_id, repo_path=str(self.repo))

    def serve(self, reader: Callable[[], SpriteReader] | None = None) -> None:
        """Start the service in a thread of this process; `reader` makes another than that of the repo."""
        self._service = _ServiceThread(self, reader() if reader else None)

    def stop_service(self) -> None:
        """End the service, whichever kind it is."""
        service, self._service = self._service, None
        if service is not None:
            service.stop()
        child, self._child = self._child, None
        if child is not None:
            end(child)

    async def serve_as_process(self, prefix: Sequence[str] = (), *, repo: Path | None = None) -> None:
        """Start `ops-manager sprite serve` (behind `prefix`), at the same port every time; return when it answers."""
        service_token = self.folder / "service-token"
        self.write_token(TOKEN, service_token)
        argv = [
            *prefix, sys.executable, "-m", "cli.main", "sprite", "serve", "--repo", str(repo or self.repo),
            "--port", str(self.port), "--token-file", str(service_token), "--superloop-bin", str(self.control_binary),
        ]  # fmt: skip
        environment = {**os.environ, "OPS_MANAGER_STATE_DIR": str(self.state_dir)}
        child = self._child = self.start(argv, env=environment, cwd=ROOT)

        def answers() -> bool:
            assert child.poll() is None, (self.folder / "processes.log").read_text()[-2000:]
            try:
                return httpx.get(f"{self.url}/healthz", headers={"X-Ops-Token": TOKEN}, timeout=1.0).status_code == 200
            except httpx.HTTPError:
                return False

        await until(lambda: asyncio.to_thread(answers), f"the service of {self.name} answers")

    def kill_service(self) -> None:
        """SIGKILL the service process."""
        assert self._child is not None
        self._child.kill()
        self._child.wait()
        self._child = None

    # Its local transport

    @contextlib.asynccontextmanager
    async def local_worker(
        self, client: Client, *, serving: str | None = None, queue: str = QUEUE
    ) -> AsyncIterator[None]:
        """Serve the local queue of this sprite (or of the one named `serving`) from this repo."""
        reader = SpriteReader(self.repo, state_dir=self.state_dir)
        controller = SpriteController(reader, self.control_binary, state_dir=self.state_dir, transport="local")
        local = LocalActivities(reader, controller, self.name)
        activities: list[Activity] = [
            local.observe,
            local.execute_control,
            local.look_up_control,
            local.probe,
            local.reconcile,
            local.chains,
        ]
        worker = activities_worker(client, local_task_queue(queue, serving or self.name), activities)
        try:
            async with worker:
                yield
        finally:
            controller.close()


def activities_worker(client: Client, task_queue: str, activities: Sequence[Activity]) -> Worker:
    """As the product's worker of activities, but for the time in which an activity learns that it was cancelled.

    With the product's 10 s the observers that a test has left behind would go on polling through the tests after it.
    """
    config = client.config(active_config=True)
    config["plugins"] = []
    heard_within = timedelta(seconds=1)
    return Worker(
        Client(**config),
        task_queue=task_queue,
        activities=activities,
        max_concurrent_activities=200,
        max_heartbeat_throttle_interval=heard_within,
        default_heartbeat_throttle_interval=heard_within,
        graceful_shutdown_timeout=GRACE,
    )


class _ServiceThread:
    """The application of `sprite serve` behind a real socket, in a thread: as real, without an interpreter's start."""

    def __init__(self, sprite: Sprite, reader: SpriteReader | None = None) -> None:
        self._reader = reader or SpriteReader(sprite.repo, state_dir=sprite.state_dir)
        self._controller = SpriteController(self._reader, sprite.control_binary, state_dir=sprite.state_dir)
        self._settings = ServiceSettings()
        self._listener = bind("127.0.0.1", sprite.port)
        self._started = threading.Event()
        self._server: SpriteServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"service {sprite.name}")
        self._thread.start()
        assert self._started.wait(TIMEOUT_S), f"the service of {sprite.name} did not start"

    async def _serve(self) -> None:
        stopping = asyncio.Event()
        app = create_app(self._reader, self._controller, TOKEN, settings=self._settings, stopping=stopping)
        self._loop = asyncio.get_running_loop()
        self._server = SpriteServer(app, self._settings, stopping, when_started=self._started.set)
        await self._server.serve([self._listener])

    def stop(self) -> None:
        assert self._loop is not None
        assert self._server is not None
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        self._listener.close()
        self._controller.close()


def edit_line(log: Path, line: int) -> None:
    """Another run id of the same length in one line: the size of the log stays what it was."""
    lines = log.read_bytes().splitlines(keepends=True)
    event = json.loads(lines[line - 1])
    other = lines[line - 1].replace(event["run_id"].encode(), b"2001-01-01T00:00:00Z")
    assert len(other) == len(lines[line - 1])
    assert other != lines[line - 1]
    log.write_bytes(b"".join([*lines[: line - 1], other, *lines[line:]]))


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process of ours and the group it leads."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
    process.wait()


async def until(condition: Any, what: str, *, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until `condition()`, plain or awaitable, is true for something outside this event loop."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain until {what}"
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def sprites(folder: Path) -> Iterator[Any]:
    """A maker of sprites below `folder`, all ended with the block."""
    with contextlib.ExitStack() as made:

        def make(name: str = "acme", scenario: Scenario | None = None, **options: Any) -> Sprite:
            return made.enter_context(Sprite(folder / name, name, scenario, **options))

        yield make

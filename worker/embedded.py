"""A Temporal server of our own: a child process with a database file in the data folder.

Several processes may use one data folder. A file lock says which of them *holds* the server: it starts it, starts it
again at the same address when it ends, and ends it. The others are guests; when the holder ends, one of them becomes
the holder, again at the same address, so workers and supervised loops just go on.

A holder that is killed cannot end its server. On Linux the kernel does it (`bound_exec`): a server without its `up`
would accept intents that nobody carries out, and cost 150 MB for ever. Nothing is lost by that: all state is in the
database. Elsewhere the server stays, and the next holder adopts it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from temporalio.service import RPCError

from contract.clock import format_utc
from worker.bootstrap import Keys, ensure_retention, ensure_search_attributes
from worker.connection import SETTLE_S, Target, connect
from worker.errors import EmbeddedFailed, WorkerError
from worker.server_binary import obtain_binary
from worker.server_process import (
    CAN_END_WITH_PARENT,
    AdoptedServer,
    ChildServer,
    ServerCommand,
    ServerProcess,
    end,
    free_ports,
    port_is_free,
)
from worker.server_state import (
    ServerState,
    database_path,
    ports_of,
    read_state,
    running_server,
    serving_processes,
    state_for,
    write_state,
)
from workflows.search_attributes import ALL

_LOG = logging.getLogger(__name__)

LOCK_FILE = "embedded.lock"
START_TIMEOUT_S = 60.0
"""The server takes half a second to answer; minutes on a machine that is short of everything."""
_START_TRIES = 3
_GUEST_POLL_S = 0.5
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_STABLE_AFTER_S = 30.0
"""A server that ran this long did not end because of the way it was started."""


class EmbeddedTemporal:
    """The embedded server of a data folder, for as long as the block lasts.

        async with EmbeddedTemporal(settings.data_folder) as temporal:
            async with connect(temporal.target) as client: ...

    `on_event` is told in a sentence whenever something happens to the server. `dynamic_config` (key to JSON value) is
    for tests, such as a short history before continue-as-new. Entering raises EmbeddedFailed.
    """

    def __init__(
        self,
        data_folder: Path,
        *,
        on_event: Callable[[str], None] = _LOG.info,
        search_attributes: Keys = ALL,
        dynamic_config: Mapping[str, str] | None = None,
        ends_with_parent: bool = CAN_END_WITH_PARENT,
    ) -> None:
        self._folder = data_folder
        self._on_event = on_event
        self._search_attributes = search_attributes
        self._dynamic_config = dict(dynamic_config or {})
        self._ends_with_parent = ends_with_parent
        self._lock: int | None = None
        self._state: ServerState | None = None
        self._server: ServerProcess | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """host:port of the frontend; the same for the whole life of this object."""
        return self._known_state.address

    @property
    def ui(self) -> str:
        """URL of the web UI."""
        return self._known_state.ui

    @property
    def pid(self) -> int | None:
        """Process id of the server; None while there is none."""
        if self.is_holder:
            return self._server.pid if self._server else None
        state = running_server(self._folder)
        return state.pid if state else None

    @property
    def is_holder(self) -> bool:
        """Whether this process holds the server; False for a guest."""
        return self._lock is not None

    @property
    def target(self) -> Target:
        """What to connect to. Environment and profiles have no part in it."""
        return Target(self.address, source=f"the embedded Temporal in {self._folder}")

    @property
    def _known_state(self) -> ServerState:
        if self._state is None:
            raise RuntimeError("the embedded server is known inside its block only")
        return self._state

    async def __aenter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            await self._hold_or_join()
        except OSError as error:
            await self._leave()
            raise EmbeddedFailed(
                f"the embedded Temporal cannot use {self._folder}: {error}. Set data_folder (OPS_MANAGER_DATA_FOLDER) "
                "to a folder that can be written to"
            ) from None
        except BaseException:
            await self._leave()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="embedded-temporal")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self._leave()
        await asyncio.sleep(SETTLE_S)

    async def _leave(self) -> None:
        """End the server if we hold it; the lock is given up last, so that no successor finds it half ended."""
        if self._server:
            await end(self._server)
            self._server = None
            self._remember(pid=None)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _hold_or_join(self) -> None:
        """Become the holder with a server that answers, or the guest of one."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not self._take_lock():
            state = running_server(self._folder)
            if state and await self._answers(state):
                self._state = state
                self._on_event(f"Using the Temporal at {state.address} that another process holds (pid {state.pid})")
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise EmbeddedFailed(
                    f"another process holds the embedded Temporal in {self._folder}, but no server answered within "
                    f"{START_TIMEOUT_S:g} s: end that process, or set another data_folder"
                )
            await asyncio.sleep(_GUEST_POLL_S)
        await self._clear_the_place()
        if self._server is None:
            await self._first_start()

    def _take_lock(self) -> bool:
        descriptor = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._lock = descriptor
        return True

    async def _clear_the_place(self) -> None:
        """Deal with servers of this database that an earlier holder has left: we hold the lock, so nobody minds them.

        One that the kernel is ending is waited for; a healthy one is adopted; any other is ended by its pid.
        """
        remembered = read_state(self._folder)
        for process in serving_processes(database_path(self._folder)):
            orphan = AdoptedServer(process)
            ending = bool(remembered and remembered.pid == process.pid and remembered.ends_with_parent)
            if ending:
                self._on_event(f"Waiting for the Temporal of an earlier process to end (pid {process.pid})")
            elif self._server is None and await self._adopt(process):
                continue
            else:
                self._on_event(f"Ending a Temporal that was left running and is of no use (pid {process.pid})")
            await end(orphan, ask=not ending)

    async def _adopt(self, process: psutil.Process) -> bool:
        """Take over a server that runs; False if it is not usable, or not where a guest's workers expect it."""
        ports = ports_of(process)
        if ports is None or (self._state and self._state.ports != ports):
            return False
        try:
            state = state_for(*ports, pid=process.pid, started_at=_utc(process.create_time()))
            await self._prepare(Target(state.address), keep_trying_s=0.0)
        except (WorkerError, RPCError, psutil.Error):
            return False
        self._server, self._state = AdoptedServer(process), state
        write_state(self._folder, state)
        self._on_event(f"Adopted the Temporal at {state.address} (pid {state.pid}) that was left running")
        return True

    async def _first_start(self) -> None:
        """Start where the last server was, or on other ports if those are taken by now."""
        remembered = read_state(self._folder)
        ports = remembered.ports if remembered and all(map(port_is_free, remembered.ports)) else free_ports()
        for further_tries in reversed(range(_START_TRIES)):
            try:
                await self._start(ports)
                return
            except EmbeddedFailed:
                # Between finding a port free and listening on it, somebody else may have taken it.
                if not further_tries or all(map(port_is_free, ports)):
                    raise
                ports = free_ports()

    async def _start(self, ports: tuple[int, int]) -> None:
        """Start a server and wait until it is ready; raises EmbeddedFailed with its last words."""
        binary = await obtain_binary(self._folder, self._on_event)
        command = ServerCommand(binary, self._folder, ports, self._ends_with_parent, self._dynamic_config)
        server = await ChildServer.start(command)
        self._server = server
        self._state = state_for(
            *ports,
            pid=server.pid,
            started_at=_utc(datetime.now(UTC).timestamp()),
            ends_with_parent=self._ends_with_parent,
        )
        write_state(self._folder, self._state)
        ended = asyncio.create_task(server.wait())
        ready = asyncio.create_task(self._prepare(self.target, START_TIMEOUT_S))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await ready
                return
            problem = f"ended at its start ({ended.result()})"
        except (WorkerError, RPCError) as error:
            problem = f"did not become ready: {error}"
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)
        await end(server)
        self._server = None
        words = server.last_words()
        raise EmbeddedFailed(
            f"the embedded Temporal {problem}. Its log is in {self._folder}" + (f"; it ends:\n{words}" if words else "")
        )

    async def _prepare(self, target: Target, keep_trying_s: float) -> None:
        """Wait until the server answers and its namespace has all that supervisors need."""
        async with connect(target, plugins=[], keep_trying_s=keep_trying_s) as client:
            await ensure_retention(client)
            await ensure_search_attributes(client, self._search_attributes)

    async def _answers(self, state: ServerState) -> bool:
        try:
            async with connect(Target(state.address), plugins=[]):
                return True
        except WorkerError:
            return False

    async def _keep(self) -> None:
        """Keep a server at the address: start it again when it ends, take over from a holder that ended."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                await self._keep_once()
            except Exception as error:  # noqa: BLE001 - whatever went wrong, workers wait for a server at the address
                self._on_event(f"Trying again: {error}")
            failures = 1 if loop.time() - began > _STABLE_AFTER_S else failures + 1
            await asyncio.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**failures))

    async def _keep_once(self) -> None:
        """Make sure that a server of ours runs, then wait until it has ended."""
        if not self.is_holder:
            await self._become_holder()
        if self._server is None:
            await self._start(self._known_state.ports)
            self._on_event(f"The embedded Temporal is back at {self.address} (pid {self.pid})")
        if self._server:
            how = await self._server.wait()
            self._server = None
            self._on_event(f"The embedded Temporal ended ({how}); starting it again at {self.address}")

    async def _become_holder(self) -> None:
        """Wait until the process that holds the server has ended, and take its place."""
        while not self._take_lock():  # noqa: ASYNC110 - a file lock of other processes; waiting in it would block
            await asyncio.sleep(_GUEST_POLL_S)
        self._on_event(f"The process that held the embedded Temporal has ended; holding it at {self.address} now")
        await self._clear_the_place()

    def _remember(self, *, pid: int | None) -> None:
        if self._state:
            self._state = self._state.model_copy(update={"pid": pid})
            write_state(self._folder, self._state)


def _utc(epoch_s: float) -> str:
    return format_utc(datetime.fromtimestamp(epoch_s, UTC))

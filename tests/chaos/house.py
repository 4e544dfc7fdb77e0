"""The processes of a supervised loop, each a real one in a folder of its own, killed and ended by its own id."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self

from tests.chaos.crew import COMMAND, START_S, Crew, Victim, argv
from tests.chaos.gate import Gate
from tests.ground.dev_server import clean_environment
from tests.harness_sprite import LOOP, Sprite

CONTINUE_AS_NEW_EVENTS = 60
"""Low, so that a supervisor begins a new run about every two seconds while the loop works."""

_SETTINGS = f"""\
[supervision]
# A minute is right for weeks; a test cannot wait for it.
idle_poll_interval = "1s"
probe_interval = "1s"
probe_max_interval = "2s"
continue_as_new_events = {CONTINUE_AS_NEW_EVENTS}
"""


class House:
    """One sprite with its service, and the manager's processes: `up`, and where asked for a worker of its own.

    With `own_worker`, `up` only holds the embedded Temporal, and a separate `ops-manager worker` supervises.
    """

    SETTINGS = _SETTINGS
    SERVICE = COMMAND
    """The module that is the service's command."""

    def __init__(
        self,
        folder: Path,
        sprite: Sprite,
        sessions: list[int],
        *,
        own_worker: bool,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._crew = Crew(folder, sessions)
        self._settings = dict(settings or {})
        self.sprite = sprite
        self.gate = Gate(folder / "gate", sprite.runtime)
        self.sprite.control_binary = self.gate.launcher
        self.data = self._crew.data
        self.own_worker = own_worker
        self._environment = self._clean_environment(folder)

    def _clean_environment(self, folder: Path) -> dict[str, str]:
        settings = folder / "ops-manager.toml"
        settings.write_text(self.SETTINGS)
        queue = {"OPS_MANAGER_TASK_QUEUE": "killable"} if self.own_worker else {}
        return clean_environment(
            folder,
            OPS_MANAGER_CONFIG=str(settings),
            OPS_MANAGER_STATE_DIR=str(self.sprite.state_dir),
            SUPERLOOP_BIN=str(self.gate.launcher),
            **queue,
            **self._settings,
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        folder: Path,
        sprite: Sprite,
        sessions: list[int],
        *,
        own_worker: bool,
        settings: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Self]:
        """Start everything and begin to supervise; end all of it with the block. `sessions` gets what was started.

        `settings` are further variables of the manager's environment.
        """
        house = cls(folder, sprite, sessions, own_worker=own_worker, settings=settings)
        try:
            await house._start_service()
            await house._start_up()
            if own_worker:
                await house._start_worker()
                await house._supervise()
            yield house
        finally:
            house.gate.release()
            await house._crew.end()

    @property
    def _place(self) -> list[str]:
        token = f"file:{self.sprite.token_file}"
        return ["--service-url", self.sprite.url, "--token", token, "--sprite", self.sprite.name, "--loop", LOOP]

    async def _start_up(self) -> None:
        # Where there is a worker of its own, `up` only holds Temporal: its worker polls another queue.
        place = [] if self.own_worker else ["--repo", str(self.sprite.repo), *self._place]
        environment = {key: value for key, value in self._environment.items() if key != "OPS_MANAGER_TASK_QUEUE"}
        await self._crew.start(Victim.UP, ["up", *place, "--data", str(self.data)], environment, "worker ready")

    async def _start_service(self) -> None:
        place = ["--repo", str(self.sprite.repo), "--port", str(self.sprite.port)]
        arguments = ["sprite", "serve", *place, "--token-file", str(self.sprite.token_file)]
        await self._crew.start(Victim.SERVICE, arguments, self._environment, "serving ", module=self.SERVICE)

    async def _start_worker(self) -> None:
        repo = ["--repo", str(self.sprite.repo), "--sprite", self.sprite.name]
        arguments = ["worker", *repo, "--data", str(self.data)]
        await self._crew.start(Victim.WORKER, arguments, self._environment, "worker ready")

    async def _supervise(self) -> None:
        command = argv(["supervise", *self._place, "--data", str(self.data)])
        done = await asyncio.to_thread(
            subprocess.run, command, env=self._environment, capture_output=True, text=True, timeout=START_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def supervising(self) -> Victim:
        """The process whose worker runs the supervisor."""
        return Victim.WORKER if self.own_worker else Victim.UP

    def pid(self, victim: Victim) -> int:
        """The process id of a victim (of Temporal: of the server that runs now)."""
        return self._crew.pid(victim)

    def begin_run(self) -> "subprocess.Popen[bytes]":
        """Start a run of the loop, as a person in the sprite would."""
        run = self.sprite.run()
        self._crew.note(Victim.RUNTIME, run)
        return run

    async def revive(self, victim: Victim, killed: int) -> None:
        """Do about a killed process what a process manager would do; nothing else is touched."""
        if victim is Victim.TEMPORAL:
            await self._crew.temporal_is_back(killed)
            return
        self._crew.bury(victim)
        again = {
            Victim.UP: self._start_up,
            Victim.WORKER: self._start_worker,
            Victim.SERVICE: self._start_service,
        }
        if victim in again:
            await again[victim]()

    def last_words(self) -> str:
        """The end of every log, for somebody who has to find out what went wrong."""
        return self._crew.last_words(self.sprite.folder)

"""Boxes: namespaces in which different folders are mounted at one path, as in two VMs that are set up alike.

Each box has its own mounts and its own process ids, so that its sprite sees neither the files nor the runs of the
other. Needs Linux and either root or user namespaces; `unshare_options` tells.
"""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

from contract.observation import Target
from tests.harness_sprite import LOOP, ROOT, Scenario, Sprite, until

_SETUP = 'mount --bind "$1" "$2" && exec sleep infinity'


@functools.cache
def unshare_options() -> tuple[str, ...] | None:
    """The options of `unshare` that work here, None if none do."""
    if not (shutil.which("unshare") and shutil.which("nsenter") and sys.platform == "linux"):
        return None
    own = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    for options in (own, ("--user", "--map-root-user", *own)):
        tried = subprocess.run(["unshare", *options, "mount", "--bind", "/tmp", "/tmp"], capture_output=True)  # noqa: S108
        if tried.returncode == 0:
            return options
    return None


class Box:
    """A namespace in which `folder` is mounted at `shared`; processes are started in it with `prefix`."""

    def __init__(self, folder: Path, shared: Path) -> None:
        options = unshare_options()
        assert options is not None
        self._options = options
        self._outer = subprocess.Popen(
            ["unshare", *options, "sh", "-c", _SETUP, "sh", str(folder), str(shared)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._inner: int | None = None

    async def ready(self) -> None:
        """Wait until the mount is there."""
        await until(self._find_inner, "the namespace is set up")

    def _find_inner(self) -> bool:
        assert self._outer.poll() is None, "the namespace could not be set up"
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        # The process is `sleep` only once the mount is done.
        done = [int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "sleep\n"]
        self._inner = done[0] if done else None
        return bool(done)

    @property
    def prefix(self) -> list[str]:
        """Put before an argument vector, it runs in the box."""
        user = ["--user", "--preserve-credentials"] if "--user" in self._options else []
        return ["nsenter", "--target", str(self._inner), *user, "--mount", "--pid", "--"]

    def close(self) -> None:
        """End every process in the box: with its first process the kernel ends all others."""
        self._outer.kill()
        self._outer.wait()


class Twin(Sprite):
    """A sprite that finds its repo at the same path as its twin, `shared`/repo, where this machine has namespaces.

    Where it has none the paths differ, and only the names and ids of the loops are equal: `same_path` tells.
    """

    def __init__(self, folder: Path, name: str, shared: Path, scenario: Scenario) -> None:
        super().__init__(folder, name, scenario)
        self.same_path = unshare_options() is not None
        self.box = Box(folder, shared) if self.same_path else None
        self.inside = shared / "repo" if self.same_path else self.repo

    def __exit__(self, *given: object) -> None:
        super().__exit__(*given)
        if self.box is not None:
            self.box.close()

    async def ready(self) -> None:
        """Wait until processes can be started inside."""
        if self.box is not None:
            await self.box.ready()

    @property
    def _prefix(self) -> list[str]:
        return self.box.prefix if self.box is not None else []

    def local_target(self, loop_id: str = LOOP) -> Target:
        """See base class; with the path that the sprite itself has for its repo."""
        return super().local_target(loop_id).model_copy(update={"repo_path": str(self.inside)})

    def run(self, loop_id: str = LOOP) -> "subprocess.Popen[bytes]":
        """Start a run inside."""
        return self.start([*self._prefix, str(self.runtime), "run", "--repo", str(self.inside), "--loop", loop_id])

    async def serve_inside(self) -> None:
        """Start the service inside."""
        await self.serve_as_process(self._prefix, repo=self.inside)

    def start_local_worker(self, address: str, *, serving: str | None = None) -> "subprocess.Popen[bytes]":
        """Start a process inside that serves the local queue of this sprite, or as if it were the one `serving`."""
        argv = [
            *self._prefix, sys.executable, "-m", "tests.harness_local_worker", address, serving or self.name,
            str(self.inside), str(self.state_dir), str(self.control_binary),
        ]  # fmt: skip
        return self.start(argv, cwd=ROOT)

"""README.md, followed by a stranger: exactly its commands, with the stand-in for the runtime."""

import hashlib
import json
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sprite.standin import FAST_PACE_MS, install_runtime, prepare_repo
from tests.ground.project import ROOT
from tests.readme.stranger import TIMEOUT_S, Network, Stranger, blocks, network, until

README = ROOT / "README.md"
LOOP = "acme/demo"
OPS_MANAGER = ".venv/bin/ops-manager"


class Sprite:
    """The reader's own sprite: a repo, and the runtime in it."""

    def __init__(self, folder: Path) -> None:
        self.repo = prepare_repo(
            folder / "repo", {"pace_ms": FAST_PACE_MS, "loops": {"demo": {"approval_required": True}}}
        )
        self.runtime = install_runtime(folder / "bin")
        self._loop = self.repo / ".superloop" / "loops" / "demo"

    def superloop(self) -> None:
        """`superloop.sh run`, to its end."""
        argv = [str(self.runtime), "run", "--repo", str(self.repo), "--loop", "demo"]
        subprocess.run(argv, capture_output=True, check=True, timeout=TIMEOUT_S)

    def ask_for_approval(self) -> None:
        """Run the loop until it waits for an approval; a run that consumes the one before comes first."""
        for _ in range(2):
            if not self.waits():
                self.superloop()
        assert self.waits()

    def waits(self) -> bool:
        """An approval is pending."""
        file = self._loop / "approval.json"
        return file.exists() and json.loads(file.read_bytes())["status"] == "pending"

    def decisions(self) -> list[dict[str, Any]]:
        """The runtime's own record of approvals."""
        return [json.loads(line) for line in (self._loop / "decisions.jsonl").read_text().splitlines()]

    def digest(self) -> str:
        """Of everything in the repo."""
        files = sorted(path for path in self.repo.rglob("*") if path.is_file())
        return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="module")
def where() -> Iterator[Network]:
    with network() as found:
        yield found


def block_with(words: str) -> str:
    """The one block of the README that holds `words`."""
    found = [block for block in blocks(README) if words in block]
    assert len(found) == 1, f"{len(found)} blocks with {words!r}"
    return found[0]


SERVE, UP, LOOK = (block_with(words) for words in ("sprite serve", " up ", " list"))
APPROVE, SIGNAL, RELEASE = (block_with(words) for words in (" approve ", "APPROVE_PENDING", " release "))


def test_readme_blocks_are_known_to_this_test_in_their_order() -> None:
    assert blocks(README) == ["make demo\n", "make test\n", SERVE, UP, LOOK, APPROVE, SIGNAL, RELEASE]


def test_the_two_commands_to_begin_with_are_targets_of_make() -> None:
    # They are run by the build server and by tests/demo; a test that ran `make test` would never end.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for target in ("demo", "test"):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, env=environment, capture_output=True, check=True)


@pytest.mark.timeout(300)
def test_readme_followed_by_a_stranger_supervises_approves_and_releases(tmp_path: Path, where: Network) -> None:
    sprite = Sprite(tmp_path / "sprite")
    variables = {"REPO": str(sprite.repo), "SUPERLOOP_BIN": str(sprite.runtime)}
    with Stranger(tmp_path / "stranger", where, **variables) as stranger:
        sprite.ask_for_approval()

        service = stranger.start(SERVE, until_said="serving ")
        token = stranger.clone / "sprite.token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert token.read_text().strip() not in service.said

        manager = stranger.start(UP, until_said=f"{LOOP} is supervised now")
        printed = dict(re.findall(r"^(Temporal|UI|CLI) +(.*)$", manager.said, re.MULTILINE))
        assert manager.said.startswith("Temporal "), "the address comes first"
        assert printed["UI"].startswith("http://127.0.0.1:")
        stranger.environment["ADDRESS"] = printed["Temporal"]

        def status() -> dict[str, Any]:
            asked = stranger.run(f"{OPS_MANAGER} status {LOOP} -o json")
            assert asked.returncode == 0, asked.stderr
            answer: dict[str, Any] = json.loads(asked.stdout)
            return answer

        until(lambda: status()["lifecycle"] == "awaiting_approval", lambda: f"it waits: {status()}")
        assert "loop:acme:demo" in succeeded(stranger, printed["CLI"])
        looked = succeeded(stranger, LOOK)
        assert re.search(rf"^{LOOP} +awaiting approval +approval waiting +sprite service ", looked, re.MULTILINE)
        assert re.search(r"^lifecycle +awaiting approval", looked, re.MULTILINE)
        assert re.search(r"^ok +token +accepted$", looked, re.MULTILINE)
        assert not re.search(r"^fail ", looked, re.MULTILINE)

        assert succeeded(stranger, APPROVE).startswith("Recorded: ana approved run ")
        assert [(decision["by"], decision["note"]) for decision in sprite.decisions()] == [("ana", "looks good")]

        sprite.ask_for_approval()
        succeeded(stranger, SIGNAL)
        until(lambda: stages(status()) == ["confirmed", "recorded"], lambda: f"both approvals are known: {status()}")
        assert [decision["by"] for decision in sprite.decisions()] == ["ana", "ana"]

        before = sprite.digest()
        assert succeeded(stranger, RELEASE) == f"{LOOP} is released. The loop itself was not touched.\n"
        assert sprite.digest() == before

        assert manager.interrupt() == 0, manager.said
        assert service.interrupt() == 0, service.said


def stages(status: dict[str, Any]) -> list[str]:
    """Of the loop's intents, in their order; none while a busy worker leaves the question unanswered."""
    return [intent["stage"] for intent in status["intents"] or []]


def succeeded(stranger: Stranger, commands: str) -> str:
    """Run commands that have to succeed; returns what they print on stdout."""
    done = stranger.run(commands)
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_readme_variables_are_explained_in_its_text() -> None:
    text = re.sub(r"^```sh\n.*?^```$", "", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = {name for block in blocks(README) for name in re.findall(r"\$\{?([A-Z_]+)", block)}
    assert named == {"REPO", "ADDRESS"}
    assert all(f"`${name}`" in text for name in named)


def test_readme_links_lead_to_files_of_the_project() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README.read_text(encoding="utf-8"))
    assert "docs/pictures/status.svg" in links
    missing = [link for link in links if not link.startswith("https://") and not (ROOT / link).is_file()]
    assert not missing


def test_readme_commands_are_all_paths_within_the_folder_or_make() -> None:
    programs = {shlex.split(line)[0] for block in blocks(README) for line in block.splitlines()}
    assert programs == {"make", OPS_MANAGER, ".venv/bin/temporal"}

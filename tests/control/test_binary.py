"""The runtime's program is found and checked before anything is served."""

from pathlib import Path

import pytest

from sprite.control import BinaryUnusable, binary_version, find_binary
from tests.control.support import fake_runtime
from tests.standin.support import Sandboxes


def test_configured_path_wins_over_environment_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured, environment, on_path = (fake_runtime(tmp_path / name) for name in ("a", "b", "c"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_binary() == on_path
    monkeypatch.setenv("SUPERLOOP_BIN", str(environment))
    assert find_binary() == environment
    assert find_binary(str(configured)) == configured


def test_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runtime(tmp_path / "bin")
    monkeypatch.chdir(tmp_path)

    assert find_binary("bin/superloop.sh") == tmp_path / "bin" / "superloop.sh"


def test_missing_binary_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERLOOP_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BinaryUnusable, match="was not found: set SUPERLOOP_BIN"):
        find_binary()


def test_binary_that_may_not_be_executed_says_how_to_mend_it(tmp_path: Path) -> None:
    script = fake_runtime(tmp_path)
    script.chmod(0o644)

    with pytest.raises(BinaryUnusable, match="not executable: chmod"):
        find_binary(str(script))


def test_version_is_what_the_binary_says(sandbox: Sandboxes) -> None:
    assert binary_version(sandbox().runtime).startswith("0.6.1")


@pytest.mark.parametrize("body", ["exit 2", "exit 0"])
def test_binary_that_tells_no_version_is_refused(tmp_path: Path, body: str) -> None:
    with pytest.raises(BinaryUnusable, match="--version exited"):
        binary_version(fake_runtime(tmp_path, body))


def test_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "superloop.sh"
    script.write_bytes(b"\x00\x01\x02")
    script.chmod(0o755)

    with pytest.raises(BinaryUnusable, match="cannot be started"):
        binary_version(script)

"""Where the server's program is looked for, and what happens when there is none."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from worker.errors import EmbeddedFailed
from worker.server_binary import find_binary, obtain_binary


@pytest.fixture
def _bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a `temporal` program."""
    monkeypatch.delenv("OPS_MANAGER_TEMPORAL_BIN", raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere/python"))
    monkeypatch.setenv("PATH", str(tmp_path))


def installed() -> Path:
    binary = find_binary(Path("nowhere"))
    assert binary, "the embedded extra brings the program"
    return binary


def test_program_beside_python_is_found() -> None:
    assert installed() == Path(sys.executable).parent / "temporal"


def test_program_named_by_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "my-temporal"
    named.symlink_to(installed())
    monkeypatch.setenv("OPS_MANAGER_TEMPORAL_BIN", str(named))
    assert find_binary(tmp_path) == named


def test_variable_that_names_no_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_MANAGER_TEMPORAL_BIN", str(tmp_path))
    with pytest.raises(EmbeddedFailed, match="OPS_MANAGER_TEMPORAL_BIN"):
        find_binary(tmp_path)


async def test_program_that_the_sdk_downloads_is_taken_over(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    program = installed()
    request.getfixturevalue("_bare_machine")
    assert find_binary(tmp_path) is None
    # Where the SDK finds the file that it would download; everything behind the download is real.
    (tmp_path / "bin").mkdir()
    downloaded = tmp_path / "bin" / f"temporal-sdk-python-{version('temporalio')}"
    announced: list[str] = []

    def announce(sentence: str) -> None:
        announced.append(sentence)
        downloaded.symlink_to(program)

    assert await obtain_binary(tmp_path, announce) == downloaded
    assert "temporal.download" in announced[0]


@pytest.mark.usefixtures("_bare_machine")
async def test_download_that_fails_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # discard: nothing listens there
    with pytest.raises(EmbeddedFailed, match="OPS_MANAGER_TEMPORAL_BIN"):
        await obtain_binary(tmp_path, lambda _: None)

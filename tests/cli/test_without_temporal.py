"""Commands that end before or without a Temporal, and how that is said."""

import subprocess
import sys

import pytest

from tests.cli.ops import Ops

NOWHERE = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "USER": "ana"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("status",),
        ("status", "a/b/c"),
        ("status", "../etc"),
        ("list", "--no-such-option"),
        ("approve", "acme/demo", "--wait-for", "nonsense"),
        ("approve", "acme/demo", "--yes", "--by", " "),
        ("approve", "acme/demo", "--yes", "--note", "x" * 5_000),
        ("supervise", "--loop", "demo"),
        ("supervise", "--service-url", "ftp://acme", "--loop", "demo"),
        ("supervise", "--service-url", "https://user:secret@acme.example", "--loop", "demo"),
        ("supervise", "--service-url", "https://acme.example", "--token", "the-secret-itself", "--loop", "demo"),
        ("supervise", "--repo", ".", "--token", "env:X", "--loop", "demo"),
        ("supervise", "--repo", ".", "--loop", "../x"),
        ("worker", "--sprite", "acme"),
        ("up", "--repo", "/no/such/folder", "--loop", "demo"),
    ],
)
async def test_wrong_command_line_exits_2_with_the_reason_and_no_traceback(arguments: tuple[str, ...]) -> None:
    done = await Ops(NOWHERE)(*arguments)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.strip()
    assert "Traceback" not in done.err
    assert "the-secret-itself" not in done.err
    assert "secret@" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("status", "demo"),
        ("watch",),
        ("release", "demo"),
        ("approve", "demo", "--yes"),
        ("supervise", "--repo", ".", "--loop", "demo"),
        ("doctor",),
    ],
)
async def test_temporal_that_is_not_there_exits_9_and_says_where_it_was_looked_for(arguments: tuple[str, ...]) -> None:
    done = await Ops(NOWHERE)(*arguments)
    assert done.code == 9, done
    assert "127.0.0.1:1 (from TEMPORAL_ADDRESS)" in done.out + done.err
    assert "Traceback" not in done.err


async def test_control_without_a_terminal_and_without_yes_exits_2_before_anything_is_asked() -> None:
    done = await Ops(NOWHERE)("cancel", "acme/demo")
    assert done.code == 2
    assert "--yes" in done.err


async def test_unexpected_error_is_one_line_and_says_where_the_traceback_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.status.with_session", None)
    done = await Ops(NOWHERE)("status", "demo")
    told = await Ops({**NOWHERE, "OPS_MANAGER_DEBUG": "1"})("status", "demo")
    assert done.code == 1, done
    assert "Unexpected TypeError" in done.err
    assert "OPS_MANAGER_DEBUG=1" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in told.err


async def test_secret_that_cannot_be_read_exits_8_before_up_starts_anything(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = tmp_path_factory.mktemp("data")
    done = await Ops()(
        "up",
        "--service-url",
        "http://127.0.0.1:1",
        "--token",
        "env:NO_SUCH_TOKEN",
        "--loop",
        "demo",
        "--data",
        str(data),
    )
    assert done.code == 8, done
    assert "NO_SUCH_TOKEN is not set" in done.err
    assert list(data.iterdir()) == []


async def test_service_that_is_not_there_exits_7_where_its_loops_were_to_be_listed() -> None:
    done = await Ops()("up", "--service-url", "http://127.0.0.1:1")
    assert done.code == 7, done
    assert "http://127.0.0.1:1" in done.err


async def test_help_shows_commands_in_the_order_of_use_and_every_exit_code() -> None:
    done = await Ops()("--help")
    assert done.code == 0
    assert done.out.index("up ") < done.out.index("status ") < done.out.index("doctor ")
    for code in ("0 ", "2 ", "3 ", "4 ", "6 ", "7 ", "8 ", "9 "):
        assert f"\n    {code}" in done.out


def test_commands_are_not_imported_before_they_are_called() -> None:
    program = "import sys, cli.main; sys.exit('temporalio' in sys.modules or 'httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)

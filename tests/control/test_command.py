"""One run of the runtime's program: arguments, environment, time, output."""

import os
import sys
import time
from pathlib import Path

import pytest

from sprite.control.command import (
    OUTPUT_LIMIT_BYTES,
    NotStarted,
    build_argv,
    child_environment,
    displayed,
    run_command,
)
from tests.control.support import lives, request
from tests.standin.support import until

BINARY, REPO = Path("/opt/bin/superloop.sh"), Path("/srv/my repo")


def run(script: str, *, timeout_s: float = 10.0) -> tuple[int, str, bool]:
    done = run_command(["/bin/bash", "-c", script], timeout_s=timeout_s, environment=dict(os.environ))
    return done.exit_code, done.output, done.timed_out


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        (request("cancel", by="ana", note="never passed on"), ["cancel", "--repo", "/srv/my repo"]),
        (request("approve"), ["approve", "--repo", "/srv/my repo", "--loop", "demo", "--by", "ops-service"]),
        (
            request("approve", by="ana", note="-rf --reject"),
            ["approve", "--repo", "/srv/my repo", "--loop", "demo", "--by", "ana", "--note", "-rf --reject"],
        ),
        (
            request("REJECT_PENDING", by="ana", note="docs"),
            ["approve", "--repo", "/srv/my repo", "--loop", "demo", "--by", "ana", "--reject", "--note", "docs"],
        ),
        (request("approve", by="ana", note=""), ["approve", "--repo", "/srv/my repo", "--loop", "demo", "--by", "ana"]),
    ],
)
def test_intent_becomes_fixed_arguments(asked: object, arguments: list[str]) -> None:
    assert build_argv(BINARY, REPO, asked) == ["/opt/bin/superloop.sh", *arguments]  # type: ignore[arg-type]


def test_command_shown_is_quoted_for_a_shell() -> None:
    argv = build_argv(BINARY, REPO, request("approve", by="ana", note="it's; rm -rf ~"))

    assert displayed(argv) == (
        "superloop.sh approve --repo '/srv/my repo' --loop demo --by ana --note 'it'\"'\"'s; rm -rf ~'"
    )


def test_values_with_shell_syntax_reach_the_program_as_they_are(tmp_path: Path) -> None:
    script = tmp_path / "superloop.sh"
    script.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    script.chmod(0o755)
    note = "$(touch pwned) `id` \"q\" 'q' ; | & > x\n\tend"

    done = run_command(build_argv(script, tmp_path, request("approve", note=note)), timeout_s=10, environment=None)

    assert done.output.endswith(f"--note\n{note}")
    assert not (tmp_path / "pwned").exists()


def test_environment_of_the_command_holds_none_of_our_tokens() -> None:
    given = {
        "PATH": "/bin",
        "SUPERLOOP_BIN": "x",
        "OPS_SERVICE_TOKEN": "a",
        "OPS_EDGE_AUTH": "b",
        "TEMPORAL_API_KEY": "c",
        "INNOCENT": "prefix-s3cret-suffix",
    }

    assert child_environment(given, ["s3cret", ""]) == {"PATH": "/bin", "SUPERLOOP_BIN": "x"}


def test_command_has_no_terminal_input() -> None:
    assert run("cat; echo over") == (0, "over", False)


def test_output_of_both_streams_is_kept_with_its_exit_code() -> None:
    assert run("echo out; echo err >&2; exit 3") == (3, "out\nerr", False)


def test_endless_output_is_clipped_and_does_not_block() -> None:
    exit_code, output, timed_out = run("yes | head -c 20000000; exit 4")

    assert (exit_code, timed_out) == (4, False)
    assert output.endswith(f"[clipped at {OUTPUT_LIMIT_BYTES} bytes]")
    assert len(output) < OUTPUT_LIMIT_BYTES + 100


def test_output_that_is_not_utf8_is_replaced() -> None:
    assert run(r"printf 'a\xff\n'") == (0, "a�", False)


def test_command_over_its_time_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()

    _, output, timed_out = run(f"sleep 60 & echo $! > {pids}; echo working; wait", timeout_s=0.3)

    assert timed_out
    assert output == "working"
    assert time.monotonic() - started < 15
    until(lambda: not lives(int(pids.read_text())), "the grandchild is gone")


def test_command_that_ignores_being_terminated_is_killed() -> None:
    exit_code, _, timed_out = run("trap '' TERM; while :; do sleep 0.1; done", timeout_s=2.0)

    assert (exit_code, timed_out) == (-9, True)


def test_program_left_behind_with_the_pipe_open_does_not_hold_up_the_answer(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()

    exit_code, output, timed_out = run(f"(while :; do echo chatter; sleep 0.01; done) & echo $! > {pids}; exit 0")

    os.kill(int(pids.read_text()), 9)
    assert (exit_code, timed_out) == (0, False)
    assert time.monotonic() - started < 15
    assert "chatter" in output or output == ""


def test_program_that_cannot_be_started_is_an_error() -> None:
    with pytest.raises(NotStarted, match="No such file"):
        run_command(["/nowhere/superloop.sh"], timeout_s=1, environment=None)


def test_child_keeps_only_the_descriptors_it_is_given() -> None:
    with open(__file__, "rb") as ours, open(sys.executable, "rb") as given:
        done = run_command(
            ["/bin/sh", "-c", "ls /proc/self/fd"], timeout_s=10, environment=None, inherited=[given.fileno()]
        )

        listed = {int(word) for word in done.output.split()}
        assert given.fileno() in listed
        assert ours.fileno() not in listed

"""`ops-manager sprite serve`: what it checks first, what it says, how it ends, and what it keeps to itself."""

import json
import logging
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner, Result

from cli.sprite_serve import sprite_serve
from sprite.http.logs import LOGGERS
from tests.control.support import GATED, effects, fake_runtime, open_gate
from tests.http.support import ROOT, RUNTIME, TOKEN, get, post, serving_process
from tests.standin.support import until

SECRET = "s3cret-token-of-this-test-4711"
EVENTS = "/ops/events?loopId=demo&cursor=1&waitSeconds=25"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return fake_runtime(tmp_path / "fake", RUNTIME)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tok"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


Invoke = Callable[..., Result]


@pytest.fixture
def invoke(runtime: Path, tmp_path: Path) -> Iterator[Invoke]:
    """Runs the command in this process: for everything that ends before it serves."""
    environment = {"SUPERLOOP_BIN": str(runtime), "OPS_MANAGER_STATE_DIR": str(tmp_path / "state")}
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]

    def call(*arguments: object) -> Result:
        return CliRunner(env=environment).invoke(sprite_serve, [str(argument) for argument in arguments])

    yield call
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_service_says_where_it_serves_and_ends_with_success(repo: Path, runtime: Path, tmp_path: Path) -> None:
    with serving_process(repo, runtime, tmp_path) as service:
        sprite_id = get(service.port, "/ops/snapshot?loopId=demo").json()["spriteId"]
        said = "\n".join(service.lines)

        assert service.end() == 0
    assert f"serving {repo} on http://127.0.0.1:{service.port} (sprite {sprite_id})" in said
    assert f"control runs {runtime}, version 0.6.1" in said


def test_long_polls_do_not_hold_up_the_end(repo: Path, runtime: Path, tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    with serving_process(repo, runtime, tmp_path) as service:
        port = service.port
        polls = [threading.Thread(target=lambda: answers.append(get(port, EVENTS))) for _ in range(3)]
        for poll in polls:
            poll.start()
        connected = psutil.Process(service.process.pid)
        until(lambda: len(connected.net_connections()) >= 4, "all of them are connected")
        time.sleep(0.3)  # and wait, which nothing outside can see
        started = time.monotonic()
        assert service.end() == 0
        assert time.monotonic() - started < 15
        for poll in polls:
            poll.join(10)
    assert [answer.status_code for answer in answers] == [200] * 3


def test_command_that_runs_is_brought_to_its_end_and_answered(repo: Path, tmp_path: Path) -> None:
    runtime = fake_runtime(tmp_path / "slow", f'{RUNTIME}while [ ! -e "$HERE/go" ]; do sleep 0.02; done; echo over')
    answers: list[httpx.Response] = []
    body = {"loopId": "demo", "intent": "approve", "noConfirm": True, "idempotencyKey": "k"}
    with serving_process(repo, runtime, tmp_path) as service:
        port = service.port
        asking = threading.Thread(target=lambda: answers.append(post(port, body)))
        asking.start()
        until(lambda: "approve" in " ".join(effects(runtime)), "the command runs")
        service.process.terminate()
        time.sleep(0.3)  # the service has had time to end, had it not waited
        assert service.process.poll() is None
        (tmp_path / "slow" / "go").touch()
        assert service.process.wait(timeout=20) == 0
        asking.join(10)
    assert answers[0].json()["result"]["commandOutput"] == "over"

    with serving_process(repo, runtime, tmp_path) as again:
        assert get(again.port, "/ops/control/k?loopId=demo").json()["result"]["status"] == "executed_unconfirmed"
        assert again.end() == 0


def test_commands_that_wait_when_the_service_is_stopped_are_refused_at_once_and_never_run(
    repo: Path, tmp_path: Path
) -> None:
    runtime = fake_runtime(tmp_path / "slow", f"{RUNTIME}{GATED}")
    answers: dict[str, httpx.Response] = {}

    def ask(key: str) -> None:
        body = {"loopId": "demo", "intent": "approve", "noConfirm": True, "idempotencyKey": key, "by": key}
        answers[key] = post(service.port, body)

    with serving_process(repo, runtime, tmp_path) as service:
        asking = [threading.Thread(target=ask, args=(f"k{n}",)) for n in range(4)]
        asking[0].start()
        until(lambda: "approve" in " ".join(effects(runtime)), "the first command runs")
        for thread in asking[1:]:
            thread.start()
        for n in range(1, 4):
            until(lambda n=n: is_in_flight(service.port, f"k{n}"), "it waits")  # type: ignore[misc]
        service.process.terminate()

        for thread in asking[1:]:
            thread.join(20)
        assert service.process.poll() is None, "the command that runs is waited for"
        open_gate(runtime)
        asking[0].join(20)
        assert service.process.wait(timeout=20) == 0

    assert answers.pop("k0").status_code == 200
    for answer in answers.values():
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], answer.json()["ok"]) == (503, "not_ready", False)
        assert error["message"].startswith("no effect: the service is being stopped")
    assert len(answers) == 3
    assert [effect for effect in effects(runtime) if "approve" in effect] == [effects(runtime)[1]]


def is_in_flight(port: int, key: str) -> bool:
    return get(port, f"/ops/control/{key}?loopId=demo").status_code == 409


def test_d22_token_is_never_in_logs_process_list_or_the_commands_environment(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_SERVICE_TOKEN", SECRET)
    monkeypatch.setenv("ANYTHING", f"x{SECRET}x")
    runtime = fake_runtime(tmp_path / "curious", f'{RUNTIME}env > "$HERE/environment"; exit 1')
    with serving_process(repo, runtime, tmp_path, token=SECRET) as service:
        port = service.port
        assert get(port, f"/{SECRET}?token={SECRET}", SECRET).status_code == 404
        assert get(port, f"/ops/snapshot?loopId={SECRET}", SECRET).status_code == 404
        assert get(port, "/healthz", f"{SECRET}x", headers={"Authorization": f"Bearer {SECRET}"}).status_code == 200
        assert get(port, "/healthz", f"{SECRET}x").status_code == 401
        answer = post(port, {"loopId": "demo", "intent": "approve"}, SECRET)
        assert answer.status_code == 500
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(f"GET /{SECRET} HTTP/9.9 {SECRET}\r\n\r\n".encode())
            assert SECRET.encode() not in raw.recv(4096)
        process = psutil.Process(service.process.pid)
        assert SECRET not in " ".join(process.cmdline())
        assert service.end() == 0

    said = "\n".join(service.lines)
    assert SECRET not in said
    assert "[hidden]" in said
    assert SECRET not in answer.text
    assert SECRET not in (tmp_path / "curious" / "environment").read_text()
    for path in (tmp_path / "state").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_log_is_one_json_line_a_request(repo: Path, runtime: Path, tmp_path: Path) -> None:
    with serving_process(repo, runtime, tmp_path) as service:
        get(service.port, "/ops/snapshot?loopId=demo&secret=query", headers={"X-Trace-Id": "t-1"})
        get(service.port, "/ops/snapshot?loopId=nope")
        get(service.port, "/ops/snapshot?loopId=demo", "wrong")
        service.end()

    lines = [json.loads(line) for line in service.lines if line.startswith("{")]
    seen = [(line["method"], line["path"], line["status"], line["traceId"]) for line in lines]
    assert seen == [
        ("GET", "/ops/snapshot", 200, "t-1"),
        ("GET", "/ops/snapshot", 404, None),
        ("GET", "/ops/snapshot", 401, None),
    ]
    for line in lines:
        assert line["message"] == "request"
        assert line["level"] == "info"
        assert line["ms"] >= 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])


def test_service_does_not_start_without_a_token(invoke: Invoke, repo: Path, tmp_path: Path) -> None:
    empty, words, binary = tmp_path / "empty", tmp_path / "words", tmp_path / "binary"
    empty.write_text(" \n")
    words.write_text("two words")
    binary.write_bytes(b"\xff\xfe\x00")
    for options, told in (
        ([], "does not start without a token"),
        (
            ["--token-file", tmp_path / "missing"],
            "ops-manager sprite serve --new-token",
        ),
        (["--token-file", empty], "is empty"),
        (["--token-file", words], "must hold one word of printable ASCII"),
        (["--token-file", binary], "must hold one word of printable ASCII"),
        (["--token-file", tmp_path], "cannot be read"),
    ):
        result = invoke("--repo", repo, *options)
        assert result.exit_code != 0
        assert told in result.stderr


def test_service_checks_repo_and_runtime_before_it_serves(
    invoke: Invoke, repo: Path, runtime: Path, token_file: Path, tmp_path: Path
) -> None:
    missing = invoke("--repo", tmp_path / "nowhere", "--token-file", token_file)
    assert missing.exit_code != 0
    assert "is not a directory" in missing.stderr

    no_binary = invoke("--repo", repo, "--token-file", token_file, "--superloop-bin", tmp_path / "nowhere.sh")
    assert no_binary.exit_code != 0
    assert "was not found: set SUPERLOOP_BIN" in no_binary.stderr

    fresh = tmp_path / "fresh"
    assert invoke("--repo", repo, "--new-token", fresh, "--superloop-bin", tmp_path / "nowhere.sh").exit_code != 0
    assert not fresh.exists()  # else the same command, mended, would be refused

    runtime.write_text("#!/bin/bash\nexit 3\n")
    no_version = invoke("--repo", repo, "--token-file", token_file)
    assert no_version.exit_code != 0
    assert "--version exited 3" in no_version.stderr


def test_port_in_use_is_told(invoke: Invoke, repo: Path, token_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = invoke("--repo", repo, "--token-file", token_file, "--port", taken.getsockname()[1])

    assert result.exit_code != 0
    assert re.search(r"cannot listen on 127\.0\.0\.1 port \d+: Address already in use", result.stderr)


def test_what_is_unwise_is_warned_about(invoke: Invoke, repo: Path, runtime: Path, tmp_path: Path) -> None:
    open_token = tmp_path / "open"
    open_token.write_text("short")
    open_token.chmod(0o644)
    runtime.write_text("#!/bin/bash\necho 7.0\n")
    bare = tmp_path / "bare"
    bare.mkdir()

    # An address of a documentation network: never one of this machine, so the command ends before it serves.
    result = invoke("--repo", bare, "--token-file", open_token, "--host", "192.0.2.1")

    assert result.exit_code != 0
    assert f"warning: the token file {open_token} can be read by others (mode 0644): chmod 600" in result.stderr
    assert "warning: the token has only 5 characters" in result.stderr
    assert "warning: listening on 192.0.2.1 without TLS" in result.stderr
    assert "warning: the runtime says version '7.0'" in result.stderr
    assert "has no .superloop folder yet" in result.stderr
    assert "short" not in result.stderr


def test_new_token_is_written_for_its_owner_only_and_never_shown(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "fresh.token"

    result = invoke("--new-token", path)

    assert result.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().strip()
    assert len(token) >= 32
    assert token not in result.output
    assert f"--token-file {path}" in result.stderr


def test_new_token_never_overwrites(invoke: Invoke, token_file: Path, repo: Path) -> None:
    for options in ([], ["--repo", repo]):
        result = invoke("--new-token", token_file, *options)

        assert result.exit_code != 0
        assert "exists already and is not overwritten" in result.stderr
    assert token_file.read_text() == f"{TOKEN}\n"


def test_new_token_with_a_repo_serves_with_it(repo: Path, runtime: Path, tmp_path: Path) -> None:
    path = tmp_path / "fresh.token"
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.sprite_serve import sprite_serve; sprite_serve()",
         "--repo", str(repo), "--port", "0", "--new-token", str(path)],
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "SUPERLOOP_BIN": str(runtime), "OPS_MANAGER_STATE_DIR": str(tmp_path / "state")},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("serving "))
        port = int(line.split("127.0.0.1:")[1].split()[0])

        assert get(port, "/healthz", path.read_text().strip()).status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize("options", [[], ["--repo", ".", "--token-file", "a", "--new-token", "b"]])
def test_options_that_make_no_sense_together_are_usage_errors(invoke: Invoke, options: list[str]) -> None:
    assert invoke(*options).exit_code == 2

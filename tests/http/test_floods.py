"""Floods of connections cost bounded memory and files, and nobody with the token anything (D21)."""

import contextlib
import resource
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sprite.http import ServiceSettings
from sprite.http.server import fitting
from tests.control.support import fake_runtime
from tests.http.support import RUNTIME, get, post, serving_process
from tests.standin.support import until


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return fake_runtime(tmp_path / "fake", RUNTIME)


def test_d21_ten_thousand_idle_connections_cost_bounded_memory_and_nobodys_time(
    repo: Path, runtime: Path, tmp_path: Path
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(10_000, hard - 1_000)
    with serving_process(repo, runtime, tmp_path) as service:
        port = service.port
        get(port, "/ops/snapshot?loopId=demo")
        process = psutil.Process(service.process.pid)
        before = process.memory_info().rss
        idle = []
        try:
            for _ in range(wanted):
                idle.append(socket.create_connection(("127.0.0.1", port), timeout=30))
            started = time.monotonic()
            assert get(port, "/ops/snapshot?loopId=demo").status_code == 200
            assert time.monotonic() - started < 10
            assert process.memory_info().rss - before < 120 * 1024 * 1024
            until(lambda: len(process.net_connections()) < 1_200, "the flood has pushed out its own")
        finally:
            for connection in idle:
                connection.close()
        assert service.end() == 0
    assert len(idle) == wanted


@pytest.mark.parametrize("max_files", [256, 1024])
def test_d21_flood_of_connections_never_uses_up_the_files_that_requests_need(
    repo: Path, runtime: Path, tmp_path: Path, max_files: int
) -> None:
    over = threading.Event()

    def flood(port: int) -> None:
        opened: list[socket.socket] = []
        while not over.is_set():
            one = socket.socket()
            opened.append(one)
            one.settimeout(2)
            with contextlib.suppress(OSError):
                one.connect(("127.0.0.1", port))
                one.sendall(b"GET / HTT")
            if len(opened) > 2 * max_files:
                opened.pop(0).close()
        for one in opened:
            one.close()

    body = {"loopId": "demo", "intent": "approve", "noConfirm": True}
    with serving_process(repo, runtime, tmp_path, max_files=max_files) as service:
        port = service.port
        floods = [threading.Thread(target=flood, args=(port,)) for _ in range(2)]
        for one in floods:
            one.start()
        try:
            process = psutil.Process(service.process.pid)
            until(lambda: process.num_fds() > max_files // 3, "the service is flooded")
            answers = [get(port, "/ops/snapshot?loopId=demo") if n % 2 else post(port, body) for n in range(12)]
        finally:
            over.set()
            for one in floods:
                one.join()
        assert service.end() == 0

    assert [answer.status_code for answer in answers] == [200] * 12
    assert not any("out of system resource" in line for line in service.lines)
    assert len("".join(service.lines)) < 100_000


@pytest.mark.parametrize("limit", [64, 256, 512, 1_024, 2_048, 20_000, sys.maxsize])
def test_connections_of_all_kinds_fit_into_the_limit_of_open_files(limit: int) -> None:
    usual = ServiceSettings()
    limits = fitting(usual, limit)

    assert limits.max_connections + limits.max_closing + 4 * limits.accept_burst + min(256, limit // 4) <= limit
    assert min(limits.max_connections, limits.max_closing, limits.accept_burst) > 0
    assert limits.max_connections >= min(usual.max_connections, limit // 4)

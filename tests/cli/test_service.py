"""What a command asks a sprite service: through which way, and what it says when that way is none."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.doctor_sprite import service_findings
from cli.exit_codes import ExitCode
from contract.observation import Target
from tests.activities.support import lay_end
from tests.cli.ops import Ops
from tests.peers import TOKEN, BasePeer, base_peer

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[BasePeer]:
    with base_peer(lay_end("02-approve", tmp_path / "repo")) as service:
        yield service


@contextlib.contextmanager
def listening_proxy() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that refuses everything, and what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        heard.append(connection.recv(65536))
                        connection.sendall(b"HTTP/1.1 502 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)


async def test_a_service_on_this_machine_is_asked_without_the_proxy_which_never_sees_its_token(
    peer: BasePeer, tmp_path: Path
) -> None:
    with listening_proxy() as (proxy, heard):
        ops = Ops({"HTTP_PROXY": proxy, "TOK": TOKEN, "OPS_MANAGER_DATA_FOLDER": str(tmp_path / "data")})
        done = await ops("up", "--service-url", peer.url, "--token", "env:TOK", "--sprite", "acme")
        assert "does not list its loops" in done.err, done
        checked = await ops("doctor", "--service-url", peer.url, "--token", "env:TOK", "--sprite", "acme")
        assert f"{peer.url} is healthy" in checked.out, checked
    assert {seen.headers["x-ops-token"] for seen in peer.requests} == {TOKEN}
    assert heard == []


@pytest.mark.parametrize("proxy", ["socks5://ana:hunter2@127.0.0.1:9", "ftp://ana:hunter2@127.0.0.1:9"])
async def test_a_proxy_that_cannot_be_used_is_told_with_what_to_do_and_without_its_password(
    proxy: str, peer: BasePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = Ops({"ALL_PROXY": proxy, "TOK": TOKEN, "OPS_MANAGER_DATA_FOLDER": str(tmp_path / "data")})
    done = await ops("up", "--service-url", peer.url, "--token", "env:TOK", "--sprite", "acme")
    assert (done.code, "ALL_PROXY" in done.err, "http or https" in done.err) == (ExitCode.USAGE, True, True), done
    assert "hunter2" not in done.err
    assert "mistake" not in done.err
    monkeypatch.setenv("ALL_PROXY", proxy)
    found = await service_findings(Target(sprite="acme", loop_id="-", service_url=peer.url), set())
    assert (found[-1].about, found[-1].exit_code) == ("proxy", ExitCode.USAGE)


async def test_a_token_that_cannot_be_read_is_told_before_anything_starts(peer: BasePeer, tmp_path: Path) -> None:
    ops = Ops({"OPS_MANAGER_DATA_FOLDER": str(tmp_path / "data")})
    named = ("--service-url", peer.url, "--token", "env:NOWHERE_SET", "--sprite", "acme", "--loop", "demo")
    done = await ops("up", *named)
    assert (done.code, "NOWHERE_SET" in done.err) == (ExitCode.AUTH, True), done
    assert not (tmp_path / "data").exists()

"""Which Temporal is meant, and what is said when it is not there."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.worker.tiny import PYTHON, ROOT
from worker.connection import CONNECT_TIMEOUT_S, Target, connect, resolve_target
from worker.embedded import EmbeddedTemporal
from worker.errors import NamespaceMissing, SettingsInvalid, TemporalUnreachable

SECRET = "s3cr3t-Api-Key"


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporal's own configuration: none of this machine's, and a file of the test."""
    for variable in ("ADDRESS", "NAMESPACE", "PROFILE", "API_KEY", "TLS", "CLIENT_CONFIG"):
        monkeypatch.delenv(f"TEMPORAL_{variable}", raising=False)
    path = tmp_path / "temporal.toml"
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(path))
    return path


def test_nothing_configured_means_the_default_address(tmp_path: Path) -> None:
    target = resolve_target(tmp_path)
    assert (target.address, target.namespace, target.options) == ("localhost:7233", "default", {})


def test_flag_beats_variable_beats_profile(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration.write_text('[profile.default]\naddress = "file:1"\nnamespace = "file"\n')
    assert resolve_target(tmp_path).address == "file:1"
    monkeypatch.setenv("TEMPORAL_ADDRESS", "variable:2")
    assert resolve_target(tmp_path).address == "variable:2"
    assert "TEMPORAL_ADDRESS" in resolve_target(tmp_path).source
    target = resolve_target(tmp_path, address="flag:3", namespace="flagged")
    assert (target.address, target.namespace) == ("flag:3", "flagged")
    assert resolve_target(tmp_path, address="flag:3").namespace == "file"


def test_named_profile_brings_its_credentials_and_never_shows_them(tmp_path: Path, configuration: Path) -> None:
    configuration.write_text(f'[profile.prod]\naddress = "prod:1"\napi_key = "{SECRET}"\n')
    target = resolve_target(tmp_path, profile="prod")
    assert (target.address, target.options["api_key"], target.options["tls"]) == ("prod:1", SECRET, True)
    assert SECRET not in repr(target)


def test_unknown_profile_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="nowhere"):
        resolve_target(tmp_path, profile="nowhere")


def test_broken_configuration_file_is_refused_without_quoting_it(tmp_path: Path, configuration: Path) -> None:
    configuration.write_text(f'[profile.default]\napi_key = "{SECRET}\n')
    with pytest.raises(SettingsInvalid) as raised:
        resolve_target(tmp_path)
    assert SECRET not in str(raised.value)
    assert "line 2" in str(raised.value)


async def test_running_embedded_server_is_found_unless_another_is_named(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedTemporal(tmp_path) as server:
        assert resolve_target(tmp_path).address == server.address
        assert resolve_target(tmp_path, address="flag:3").address == "flag:3"
        configuration.write_text("[profile.prod]\n")
        assert resolve_target(tmp_path, profile="prod").address == "localhost:7233"
        monkeypatch.setenv("TEMPORAL_API_KEY", SECRET)
        assert resolve_target(tmp_path).address == "localhost:7233", "a key must not go to a server it is not for"
    monkeypatch.delenv("TEMPORAL_API_KEY")
    assert resolve_target(tmp_path).address == "localhost:7233"


async def failure_to_connect(target: Target) -> tuple[str, float]:
    began = time.monotonic()
    with pytest.raises(TemporalUnreachable) as raised:
        async with connect(target, plugins=[]):
            pass
    assert raised.value.exit_code == 9
    return str(raised.value), time.monotonic() - began


async def test_address_where_nothing_listens_fails_at_once_saying_what_to_do() -> None:
    address = f"127.0.0.1:{free_port()}"
    message, seconds = await failure_to_connect(Target(address, source="given as --address"))
    assert seconds < CONNECT_TIMEOUT_S
    assert message.startswith(f"Temporal unreachable at {address} (given as --address): connection refused")
    assert "ops-manager up" in message


async def test_address_that_never_answers_fails_within_three_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        message, seconds = await failure_to_connect(Target(f"127.0.0.1:{silent.getsockname()[1]}"))
    assert CONNECT_TIMEOUT_S - 0.5 < seconds < CONNECT_TIMEOUT_S + 10
    assert "no answer within 3 s" in message


async def test_host_name_that_does_not_exist_is_said_so() -> None:
    message, _ = await failure_to_connect(Target("no-such-host.invalid:7233"))
    assert "host name cannot be resolved" in message


async def test_address_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(SettingsInvalid, match="no host:port"):
        async with connect(Target("127.0.0.1:port", source="given as --address"), plugins=[]):
            pass


async def test_unknown_namespace_is_named_with_the_command_that_makes_it(temporal: EmbeddedTemporal) -> None:
    with pytest.raises(NamespaceMissing, match=r"temporal operator namespace create .*--namespace elsewhere"):
        async with connect(Target(temporal.address, "elsewhere"), plugins=[]):
            pass


async def test_server_that_comes_up_while_we_keep_trying_is_reached(tmp_path: Path) -> None:
    async with EmbeddedTemporal(tmp_path) as server:
        target = server.target

    async def reached() -> int:
        async with connect(target, plugins=[], keep_trying_s=30) as client:
            return (await client.count_workflows("")).count

    trying = asyncio.create_task(reached())
    async with EmbeddedTemporal(tmp_path):
        assert await trying == 0


async def test_project_plugin_is_part_of_a_client(temporal: EmbeddedTemporal) -> None:
    async with connect(temporal.target) as client:
        assert [plugin.name() for plugin in client.config()["plugins"]] == ["superloop-ops-manager"]


SHORT_LIVED = """
import asyncio, sys
from worker.connection import Target, connect

async def main():
    async with connect(Target(sys.argv[1]), plugins=[]) as client:
        await client.count_workflows("")

asyncio.run(main())
"""


async def test_short_lived_processes_end_without_aborting(temporal: EmbeddedTemporal) -> None:
    argv = (PYTHON, "-c", SHORT_LIVED, temporal.address)
    started = [await asyncio.create_subprocess_exec(*argv, cwd=ROOT) for _ in range(5)]
    assert [await process.wait() for process in started] == [0] * 5

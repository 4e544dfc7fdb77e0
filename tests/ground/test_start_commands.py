"""Our own start commands of docker-compose.yml, taken out of it and run against a real Temporal server."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ground.compose import dockerfile, environment, on_host, services
from tests.ground.dev_server import TEMPORAL, TOOLS, clean_environment, dev_server
from tests.ports import free_port

THIRTY_DAYS = "2592000s"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with dev_server(free_port(), home) as running:
        yield running


def run_namespace_job(address: str, home: Path, namespace: str, **added: str) -> subprocess.CompletedProcess[str]:
    """Run the namespace job's entrypoint as compose would, with the server's address of this test."""
    job = "temporal-namespace"
    shell, script = services()[job]["entrypoint"]
    env = {**environment(job, TEMPORAL_NAMESPACE=namespace), "TEMPORAL_ADDRESS": address, **added}
    argv = [shell, on_host(job, script)]
    return subprocess.run(argv, env=clean_environment(home, **env), capture_output=True, text=True)


def retention(address: str, home: Path, namespace: str) -> str:
    said = subprocess.run(
        [TEMPORAL, "operator", "namespace", "describe", "-n", namespace, "--address", address, "-o", "json"],
        env=clean_environment(home),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: str = json.loads(said)["config"]["workflowExecutionRetentionTtl"]
    return found


def test_namespace_job_run_twice_creates_once_with_thirty_days(address: str, home: Path) -> None:
    first = run_namespace_job(address, home, "loops")
    assert first.returncode == 0, first.stderr
    assert retention(address, home, "loops") == THIRTY_DAYS

    second = run_namespace_job(address, home, "loops")
    assert second.returncode == 0, second.stderr
    assert "exists and is left as it is" in second.stdout
    assert retention(address, home, "loops") == THIRTY_DAYS


def test_namespace_job_leaves_a_raised_retention_alone(address: str, home: Path) -> None:
    assert run_namespace_job(address, home, "kept-longer", NAMESPACE_RETENTION="90d").returncode == 0
    assert run_namespace_job(address, home, "kept-longer").returncode == 0
    assert retention(address, home, "kept-longer") == "7776000s"


def test_namespace_job_started_before_the_server_waits_for_it(home: Path) -> None:
    port = free_port()
    job = "temporal-namespace"
    shell, script = services()[job]["entrypoint"]
    env = {**environment(job, TEMPORAL_NAMESPACE="early"), "TEMPORAL_ADDRESS": f"127.0.0.1:{port}"}
    argv = [shell, on_host(job, script)]
    with (
        subprocess.Popen(argv, env=clean_environment(home, **env), stdout=subprocess.DEVNULL) as early,
        dev_server(port, home) as address,
    ):
        assert early.wait() == 0
        assert retention(address, home, "early") == THIRTY_DAYS


def test_namespace_job_without_a_server_gives_up_and_says_where(home: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = run_namespace_job(address, home, "nowhere", WAIT_SECONDS="1")
    assert done.returncode == 1
    assert f"The Temporal server at {address} is not there" in done.stderr


def run_schema_job(home: Path, tool: str) -> tuple[int, list[str]]:
    """Run the schema job with that shell text as `temporal-sql-tool`; return its exit code and the calls."""
    bin_folder = home / "schema-bin"
    shutil.rmtree(bin_folder, ignore_errors=True)
    bin_folder.mkdir()
    calls = bin_folder / "calls"
    calls.touch()
    recorder = bin_folder / "temporal-sql-tool"
    recorder.write_text(f'#!/bin/sh\necho "$*" >>"{calls}"\n{tool}\n')
    recorder.chmod(0o755)
    shell, script = services()["temporal-schema"]["entrypoint"]
    env = clean_environment(home, **environment("temporal-schema", POSTGRES_PASSWORD="opens nothing"))
    env["PATH"] = f"{bin_folder}:{env['PATH']}"
    done = subprocess.run([shell, on_host("temporal-schema", script)], env=env, capture_output=True)
    return done.returncode, calls.read_text().splitlines()


def test_schema_job_creates_sets_up_and_updates_both_databases(home: Path) -> None:
    code, calls = run_schema_job(home, "exit 0")
    assert code == 0
    connection = "--plugin postgres12 --ep postgres -p 5432 -u temporal --db"
    versions = "/etc/temporal/schema/postgresql/v12"
    assert calls == [
        f"{connection} temporal create",
        f"{connection} temporal setup-schema -v 0.0",
        f"{connection} temporal update-schema -d {versions}/temporal/versioned",
        f"{connection} temporal_visibility create",
        f"{connection} temporal_visibility setup-schema -v 0.0",
        f"{connection} temporal_visibility update-schema -d {versions}/visibility/versioned",
    ]


def test_schema_job_whose_step_fails_stops_there_and_fails(home: Path) -> None:
    code, calls = run_schema_job(home, "exit 3")
    assert code == 3
    assert len(calls) == 1, "the server must not start on half a schema"


def test_schema_job_never_shows_the_password(home: Path) -> None:
    _, calls = run_schema_job(home, "exit 0")
    assert [call for call in calls if "opens nothing" in call] == []


def test_worker_becomes_ready_and_stops_gracefully_on_sigterm(address: str, home: Path, tmp_path: Path) -> None:
    namespace = "supervised"
    assert run_namespace_job(address, home, namespace).returncode == 0
    (entrypoint,) = [instruction.rest for instruction in dockerfile()[-1] if instruction.name == "ENTRYPOINT"]
    (program,) = json.loads(entrypoint)
    argv = [TOOLS / program, *services()["worker"]["command"]]
    env = {**environment("worker", TEMPORAL_NAMESPACE=namespace), "TEMPORAL_ADDRESS": address}
    grace_s = int(services()["worker"]["stop_grace_period"].removesuffix("s"))

    with subprocess.Popen(
        argv,
        env=clean_environment(tmp_path, **env),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        try:
            assert worker.stderr is not None
            said = []
            for line in worker.stderr:  # ends with the process, if that never becomes ready
                said.append(line)
                if "worker ready" in line:
                    break
            assert any("worker ready" in line for line in said), "".join(said)
            worker.send_signal(signal.SIGTERM)
            _, rest = worker.communicate(timeout=grace_s)
        finally:
            worker.kill()
    assert worker.returncode == 0, "".join(said) + rest
    assert list(tmp_path.iterdir()) == [], "the container's file system is read-only"

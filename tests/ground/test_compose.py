"""docker-compose.yml, read: what is pinned, what is reachable, what waits for what, and that no secret is in it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ground.compose import VARIABLE, document, environment, on_host, services
from tests.ground.dev_server import TEMPORAL
from tests.ground.project import ROOT, pyproject

SECRET = re.compile(r"PASSWORD|PWD|TOKEN|SECRET|API_KEY")


def published_ports() -> list[tuple[str, str]]:
    return [(name, str(port)) for name, body in services().items() for port in body.get("ports", [])]


def test_services_are_the_whole_installation() -> None:
    expected = {"postgres", "temporal-schema", "temporal", "temporal-namespace", "ui", "worker"}
    assert set(services()) == expected


def test_every_published_port_is_bound_to_loopback() -> None:
    ports = published_ports()
    assert {name for name, _ in ports} == {"temporal", "ui"}
    assert [port for _, port in ports if not port.startswith("127.0.0.1:")] == []


def test_nothing_shares_the_network_of_the_machine() -> None:
    assert [name for name, body in services().items() if "network_mode" in body or body.get("privileged")] == []


@pytest.mark.parametrize("name", sorted(services()))
def test_image_is_pinned_to_a_full_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?", services()[name]["image"])


def test_server_is_the_version_that_the_tests_run_against() -> None:
    said = subprocess.run([TEMPORAL, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\(Server ([\d.]+), UI ([\d.]+)\)", said)
    assert found, said
    server, ui = found.groups()
    images = {name: body["image"] for name, body in services().items()}
    assert images["temporal"] == f"temporalio/server:{server}"
    assert images["temporal-schema"] == images["temporal-namespace"] == f"temporalio/admin-tools:{server}"
    assert images["ui"] == f"temporalio/ui:{ui}"


def test_worker_image_carries_the_version_of_the_project() -> None:
    worker = services()["worker"]
    assert worker["build"] == "."
    assert worker["image"] == f"{pyproject()['project']['name']}:{pyproject()['project']['version']}"


def test_kept_histories_live_in_a_named_volume_that_the_worker_may_write() -> None:
    worker, folder = services()["worker"], environment("worker")["OPS_MANAGER_DATA_FOLDER"]
    assert worker["volumes"] == [f"ops-manager-data:{folder}"]
    assert "ops-manager-data" in document()["volumes"]
    # A new volume takes over the owner of the folder in the image.
    assert f"install -d -o 10001 -g 10001 {folder}" in (ROOT / "Dockerfile").read_text()


def test_database_lives_in_a_named_volume() -> None:
    (mount,) = services()["postgres"]["volumes"]
    volume, target = mount.split(":")
    assert volume in document()["volumes"]
    assert target == "/var/lib/postgresql"


@pytest.mark.parametrize(
    ("service", "waits_for", "until"),
    [
        ("temporal-schema", "postgres", "service_healthy"),
        ("temporal", "postgres", "service_healthy"),
        ("temporal", "temporal-schema", "service_completed_successfully"),
        ("temporal-namespace", "temporal", "service_healthy"),
        ("ui", "temporal", "service_healthy"),
        ("worker", "temporal-namespace", "service_completed_successfully"),
    ],
)
def test_start_waits_for_what_it_needs(service: str, waits_for: str, until: str) -> None:
    assert services()[service]["depends_on"][waits_for] == {"condition": until}


def test_health_is_checked_wherever_it_is_waited_for() -> None:
    waited_for = {
        name
        for body in services().values()
        for name, gate in body.get("depends_on", {}).items()
        if gate["condition"] == "service_healthy"
    }
    assert waited_for == {"postgres", "temporal"}
    assert [name for name in waited_for if not services()[name]["healthcheck"]["test"]] == []


@pytest.mark.parametrize("job", ["temporal-schema", "temporal-namespace"])
def test_job_ends_and_is_not_kept_running(job: str) -> None:
    assert services()[job]["restart"].startswith("on-failure")


def secrets() -> list[tuple[str, str, str]]:
    return [
        (service, name, value)
        for service, body in services().items()
        for name, value in body.get("environment", {}).items()
        if SECRET.search(name)
    ]


def test_secrets_come_from_outside_and_are_demanded() -> None:
    found = secrets()
    assert {(service, name) for service, name, _ in found} == {
        ("postgres", "POSTGRES_PASSWORD"),
        ("temporal-schema", "SQL_PASSWORD"),
        ("temporal", "POSTGRES_PWD"),
    }
    for service, name, value in found:
        reference = VARIABLE.fullmatch(value)
        assert reference, f"{service}: {name} is written out"
        assert reference["complaint"], f"{service}: {name} may be missing unnoticed"


def test_worker_gets_only_temporals_own_connection_variables_and_the_folder_of_its_data() -> None:
    expected = {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "OPS_MANAGER_DATA_FOLDER"}
    assert set(services()["worker"]["environment"]) == expected
    assert services()["worker"]["env_file"] == [{"path": "worker.env", "required": False}]


def test_example_environment_names_every_variable_and_holds_no_password() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(example) == {match["name"] for match in VARIABLE.finditer(text)}
    assert example["POSTGRES_PASSWORD"] == ""


@pytest.mark.parametrize("name", [".env", "worker.env", "sprite.token"])
def test_files_with_secrets_are_never_committed(name: str) -> None:
    assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT).returncode == 0


def test_server_finds_its_dynamic_configuration() -> None:
    path = on_host("temporal", environment("temporal", POSTGRES_PASSWORD="x")["DYNAMIC_CONFIG_FILE_PATH"])
    settings: dict[str, list[dict[str, Any]]] = yaml.safe_load(path.read_text())
    assert settings["limit.maxIDLength"] == [{"value": 255}]
    assert all([set(entry) <= {"value", "constraints"} for entry in entries] for entries in settings.values())


@pytest.mark.parametrize("job", ["temporal-schema", "temporal-namespace"])
def test_job_runs_a_script_of_ours(job: str) -> None:
    shell, script = services()[job]["entrypoint"]
    assert shell == "/bin/sh"
    path: Path = on_host(job, script)
    assert subprocess.run(["sh", "-n", path], capture_output=True).returncode == 0


def test_worker_is_confined() -> None:
    worker = services()["worker"]
    assert worker["read_only"] is True
    assert worker["cap_drop"] == ["ALL"]
    assert worker["security_opt"] == ["no-new-privileges:true"]

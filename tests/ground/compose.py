"""docker-compose.yml and Dockerfile as data, and what they start as commands for this machine."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests.ground.project import ROOT

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?(?P<complaint>[^}]*))?\}")


def services() -> dict[str, dict[str, Any]]:
    """Return the services of docker-compose.yml by name."""
    return {name: dict(body) for name, body in document()["services"].items()}


def document() -> dict[str, Any]:
    """Return docker-compose.yml as parsed."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


def environment(service: str, **host: str) -> dict[str, str]:
    """Return the service's environment with `${NAME:-default}` filled in from `host`, as compose does."""

    def value(match: re.Match[str]) -> str:
        given = host.get(match["name"]) or match["default"]
        assert given is not None, f"{match.group(0)} in {service} has no value"
        return given

    raw: dict[str, str] = services()[service].get("environment", {})
    return {name: VARIABLE.sub(value, text) for name, text in raw.items()}


def on_host(service: str, inside: str) -> Path:
    """Return the project's file that the service sees at that path."""
    for mount in services()[service].get("volumes", []):
        source, target, *_ = mount.split(":")
        if PurePosixPath(inside).is_relative_to(target):
            path: Path = ROOT / source / PurePosixPath(inside).relative_to(target)
            return path.resolve()
    raise AssertionError(f"{service} mounts nothing at {inside}")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, continued lines joined."""

    name: str
    rest: str


def dockerfile() -> list[list[Instruction]]:
    """Return the Dockerfile's instructions, one list per build stage."""
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    stages: list[list[Instruction]] = []
    for line in joined.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, rest.strip()))
    return stages

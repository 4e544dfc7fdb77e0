"""The project's own files as the ground tests read them."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

LOCKS = ("requirements.txt", "requirements-build.txt", "requirements-dev.txt")


def pyproject() -> dict[str, Any]:
    """Return pyproject.toml as parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared(*, extras: tuple[str, ...] = (), groups: tuple[str, ...] = (), project: bool = True) -> list[Requirement]:
    """Return the requirements that pyproject.toml names itself, with those extras and dependency groups."""
    parsed = pyproject()
    lines: list[str] = list(parsed["project"]["dependencies"]) if project else []
    for extra in extras:
        lines += parsed["project"]["optional-dependencies"][extra]
    for group in groups:
        lines += _group(parsed["dependency-groups"], group)
    return [Requirement(line) for line in lines]


def _group(table: dict[str, list[str | dict[str, str]]], name: str) -> list[str]:
    lines: list[str] = []
    for item in table[name]:
        lines += [item] if isinstance(item, str) else _group(table, item["include-group"])
    return lines


def lock_lines(name: str) -> list[str]:
    """Return the logical lines of a lock file: comments dropped, continued lines joined."""
    physical = [line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in "\n".join(physical).replace("\\\n", " ").splitlines() if line.strip()]


def locked(name: str) -> dict[str, Requirement]:
    """Return the pins of a lock file by canonical name."""
    pins = [Requirement(line.split(" --hash=")[0].strip()) for line in lock_lines(name)]
    return {canonicalize_name(pin.name): pin for pin in pins}


def project_files() -> list[Path]:
    """Return every file of the project: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]

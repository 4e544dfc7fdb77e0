"""The Dockerfile, read: pinned, hash-checked, without root and without a secret."""

import json
import re

import pytest

from tests.ground.check_wheel import PACKAGES
from tests.ground.compose import dockerfile
from tests.ground.project import LOCKS, ROOT, pyproject


def rest_of(name: str, stage: int) -> list[str]:
    return [instruction.rest for instruction in dockerfile()[stage] if instruction.name == name]


def test_base_image_is_pinned_to_a_full_python_version() -> None:
    bases = [stage[0].rest for stage in dockerfile()]
    assert len(bases) == 2
    assert [base for base in bases if not re.match(r"python:\d+\.\d+\.\d+-slim-\w+( AS \w+)?$", base)] == []


def test_process_is_not_root() -> None:
    final = dockerfile()[-1]
    users = [place for place, instruction in enumerate(final) if instruction.name == "USER"]
    assert users, "no USER instruction"
    uid = final[users[-1]].rest.split(":")[0]
    assert int(uid) > 0
    assert "RUN" not in {instruction.name for instruction in final[users[-1] :]}


def test_entrypoint_is_the_console_script() -> None:
    (entrypoint,) = rest_of("ENTRYPOINT", -1)
    (script,) = json.loads(entrypoint)
    assert script in pyproject()["project"]["scripts"]


def test_nothing_is_installed_unhashed() -> None:
    commands = [
        command.strip()
        for stage in range(len(dockerfile()))
        for run in rest_of("RUN", stage)
        for command in run.split("&&")
        if "pip " in command
    ]
    assert len(commands) == 3
    assert [command for command in commands if "--require-hashes" not in command and "--no-deps" not in command] == []
    for command in commands:
        named = re.findall(r"requirements\S*\.txt", command)
        assert all(name.split("/")[-1] in LOCKS for name in named)


def test_every_package_is_copied_and_let_into_the_build() -> None:
    copied = {name for rest in rest_of("COPY", 0) for name in rest.split()[:-1]}
    assert copied >= PACKAGES
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignore if line and not line.startswith("#")) == "*"
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    from_tree = copied | {name for rest in rest_of("COPY", 1) for name in rest.split()[:-1] if "--from=" not in rest}
    assert {name.rstrip("*") for name in from_tree} == let_in


@pytest.mark.parametrize("name", [".git", ".env", "worker.env", ".venv", "tests", "deploy"])
def test_build_context_leaves_out_what_the_image_does_not_need(name: str) -> None:
    assert f"!{name}" not in (ROOT / ".dockerignore").read_text().splitlines()


def test_no_secret_is_built_in() -> None:
    named = [rest for stage in range(2) for name in ("ENV", "ARG") for rest in rest_of(name, stage)]
    assert [rest for rest in named if re.search(r"(?i)password|token|secret|key", rest)] == []

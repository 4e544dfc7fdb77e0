"""What is built is what people get: the wheel, not the tree, has to be complete."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.ground.check_wheel import WheelIncomplete, check, the_wheel
from tests.ground.project import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return the_wheel(out)


def test_wheel_holds_the_packages_and_the_console_script(wheel: Path) -> None:
    check(wheel)


def test_wheel_runs_away_from_the_tree(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        "import cli, sys; from cli.main import main; print(cli.__file__); sys.argv = ['ops-manager', '--help']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "cli")), "the tree was imported instead of the wheel"
    assert "Usage: ops-manager" in done.stdout


def test_wheel_without_a_package_is_refused(wheel: Path, tmp_path: Path) -> None:
    poorer = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as full, zipfile.ZipFile(poorer, "w") as less:
        for name in full.namelist():
            if not name.startswith("incidents/"):
                less.writestr(name, full.read(name))
    with pytest.raises(WheelIncomplete, match="incidents"):
        check(poorer)

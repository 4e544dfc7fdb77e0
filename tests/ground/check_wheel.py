"""Check that a built wheel is the product: every package, the console script, and nothing of the workshop.

`python check_wheel.py FOLDER` checks the one wheel in FOLDER (`make dist` does).
"""

import configparser
import sys
import zipfile
from pathlib import Path

PACKAGES = {"contract", "sprite", "workflows", "activities", "worker", "cli", "incidents"}


class WheelIncomplete(Exception):
    """The wheel lacks something or carries something foreign. Building again does not help; pyproject.toml does."""


def the_wheel(folder: Path) -> Path:
    """Return the one wheel in the folder; raises WheelIncomplete when there is none or more than one."""
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise WheelIncomplete(f"expected one wheel in {folder}, found {[wheel.name for wheel in wheels]}")
    return wheels[0]


def check(wheel: Path) -> None:
    """Raise WheelIncomplete unless the wheel holds exactly our packages and the `ops-manager` script."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        top_level = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        if top_level != PACKAGES:
            raise WheelIncomplete(f"{wheel.name}: packages {sorted(top_level)}, expected {sorted(PACKAGES)}")
        entry_points = next((name for name in names if name.endswith(".dist-info/entry_points.txt")), None)
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(entry_points).decode() if entry_points else "")
        target = scripts.get("console_scripts", "ops-manager", fallback=None)
        if target is None:
            raise WheelIncomplete(f"{wheel.name}: no console script ops-manager")
        module = target.split(":")[0].replace(".", "/") + ".py"
        if module not in names:
            raise WheelIncomplete(f"{wheel.name}: ops-manager starts {target}, but {module} is not in the wheel")


def main() -> int:
    """Check the folder named on the command line; 0 if good, 1 with one line on stderr if not."""
    try:
        wheel = the_wheel(Path(sys.argv[1]))
        check(wheel)
    except WheelIncomplete as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{wheel.name}: complete")
    return 0


if __name__ == "__main__":
    sys.exit(main())

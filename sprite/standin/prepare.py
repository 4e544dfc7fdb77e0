"""Lay down a repo for the stand-in, and put the stand-in where it can be executed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sprite.standin.scenario import SCENARIO_FILE, parse_scenario

_RUNTIME = Path(__file__).resolve().with_name("superloop.sh")

_LAUNCHER = """\
{shebang}
\"\"\"Launcher of the stand-in for Superloop (no agents, artifacts only).\"\"\"

import runpy
import sys

sys.path = sys.path[1:]  # not this folder, whatever else is in it
runpy.run_path({runtime!r}, run_name="__main__")
"""
# What the kernel takes as a `#!` line, with a margin; some take no more than 127 characters.
_SHEBANG_LIMIT = 120


def runtime_path() -> Path:
    """Return the stand-in's `superloop.sh` in this installation.

    A wheel does not keep its executable bit, and its `#!` line takes whatever python3 is on the PATH (the standard
    library is enough). For a SUPERLOOP_BIN that always works, use `install_runtime`.
    """
    return _RUNTIME


def install_runtime(target_dir: Path) -> Path:
    """Write an executable `superloop.sh` into a folder, run by this interpreter; return its path.

    Raises:
        OSError: the folder cannot be written.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    path = target_dir / "superloop.sh"
    path.write_text(_LAUNCHER.format(shebang=_shebang(sys.executable), runtime=str(_RUNTIME)), "utf-8")
    path.chmod(0o755)
    return path


def _shebang(interpreter: str) -> str:
    if " " not in interpreter and len(interpreter) < _SHEBANG_LIMIT:
        return f"#!{interpreter}"
    # sh runs the second line and becomes Python; Python reads the same lines as a string.
    return f"#!/bin/sh\n'''exec' \"{interpreter}\" \"$0\" \"$@\"\n' '''"


def prepare_repo(
    path: Path,
    scenario: Mapping[str, Any] | None = None,
    *,
    loops: Sequence[str] | None = None,
    loop_config: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Lay down a repo that the stand-in can run; return its absolute path.

    Args:
        path: the folder; made if missing. What is there already is left alone, but for config.json and standin.json.
        scenario: what the runs do, see `sprite.standin.scenario`; written to .superloop/standin.json.
        loops: the loop ids of config.json, in order (default: those of the scenario, or `demo`).
        loop_config: settings per loop id, laid over the defaults of config.json, e.g. {"demo": {"checklists": [...]}}.

    Raises:
        ScenarioError: the scenario holds something unknown.
    """
    document = dict(scenario or {})
    parsed = parse_scenario(document)
    ids = list(loops or parsed.loops or ["demo"])
    root = path.resolve()
    specs = root / ".superloop" / "specs"
    specs.mkdir(parents=True, exist_ok=True)
    for loop_id in ids:
        _write_if_missing(specs / f"{loop_id}.md", f"# {loop_id}\n\n- [ ] what the loop is to build\n")
    _write_if_missing(root / "README.md", "# A repo for the stand-in runtime\n")
    overrides = loop_config or {}
    config = {
        "runners": {"mock": {"command": ["mock-sprite-runner.sh"], "args": ["{repo}"], "prompt_mode": "stdin"}},
        "loops": [{**_loop(loop_id), **overrides.get(loop_id, {})} for loop_id in ids],
    }
    _write_json(root / ".superloop" / "config.json", config)
    _write_json(root / SCENARIO_FILE, document)
    return root


def _loop(loop_id: str) -> dict[str, Any]:
    return {
        "id": loop_id,
        "spec_file": f".superloop/specs/{loop_id}.md",
        "max_iterations": 5,
        "completion_promise": "SUPERLOOP_COMPLETE",
        "checklists": [],
        "tests": {"mode": "every", "commands": ["sh run-tests.sh"]},
        "evidence": {"enabled": True, "require_on_completion": True, "artifacts": ["README.md"]},
        "approval": {"enabled": False, "require_on_completion": False},
        "stuck": {"enabled": False, "threshold": 3, "action": "report_and_stop", "ignore": []},
        "lifecycle": {
            "enabled": True,
            "require_on_completion": True,
            "strict": True,
            "block_on_failure": True,
            "feature_prefix": "feat/",
            "main_ref": "main",
            "no_fetch": True,
        },
        "roles": {role: {"runner": "mock"} for role in ("planner", "implementer", "tester", "reviewer")},
    }


def _write_if_missing(path: Path, text: str) -> None:
    if not path.exists():
        path.write_text(text, "utf-8")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")

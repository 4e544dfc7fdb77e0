"""What the stand-in reads from `.superloop/config.json`: the settings that show in the artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sprite.standin.disk import CommandError
from sprite.standin.scenario import LoopScript

CONFIG_FILE = ".superloop/config.json"
ROLES = ("planner", "implementer", "tester", "reviewer")


class LoopConfig(NamedTuple):
    """One loop of config.json, with the scenario's overrides applied."""

    loop_id: str
    position: int
    spec_file: str
    max_iterations: int
    promise: str
    checklists: tuple[str, ...]
    tests_mode: str
    test_commands: tuple[str, ...]
    approval_required: bool
    stuck_threshold: int
    """0: stuck detection is off."""
    stuck_action: str
    lifecycle: Mapping[str, str]
    role_timeouts_s: Mapping[str, int]
    roles: tuple[str, ...]
    runner: str


def load_config(path: Path) -> dict[str, Any]:
    """Return config.json.

    Raises:
        CommandError: it is missing, not JSON, or lists no loops.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CommandError(f"error: config not found: {path}") from None
    except ValueError as error:
        raise CommandError(f"error: config is not valid JSON: {path}: {error}") from None
    loops = config.get("loops") if isinstance(config, dict) else None
    if not isinstance(loops, list) or not loops or not all(isinstance(item, dict) and "id" in item for item in loops):
        raise CommandError(f"error: no loops found in {path}")
    return dict(config)


def loop_config(config: Mapping[str, Any], index: int, script: LoopScript) -> LoopConfig:
    """Return the settings of the loop at `index` of config.json."""
    loop = config["loops"][index]
    approval, stuck, tests = _part(loop, "approval"), _part(loop, "stuck"), _part(loop, "tests")
    lifecycle, timeouts, roles = _part(loop, "lifecycle"), _part(loop, "timeouts"), _part(loop, "roles")
    required = bool(approval.get("enabled") and approval.get("require_on_completion"))
    threshold = int(stuck.get("threshold", 3)) if stuck.get("enabled") else 0
    default_timeout = int(timeouts.get("default", 300))
    return LoopConfig(
        loop_id=str(loop["id"]),
        position=index,
        spec_file=str(loop.get("spec_file", "")),
        max_iterations=script.max_iterations or int(loop.get("max_iterations", 5)),
        promise=str(loop.get("completion_promise", "SUPERLOOP_COMPLETE")),
        checklists=tuple(loop.get("checklists", [])),
        tests_mode=str(tests.get("mode", "every")),
        test_commands=tuple(tests.get("commands", [])),
        approval_required=required if script.approval_required is None else script.approval_required,
        stuck_threshold=threshold if script.stuck_threshold is None else script.stuck_threshold,
        stuck_action=str(stuck.get("action", "report_and_stop")),
        lifecycle={
            "feature_prefix": str(lifecycle.get("feature_prefix", "feat/")),
            "main_ref": str(lifecycle.get("main_ref", "main")),
            **{
                key: "true" if lifecycle.get(key, True) else "false"
                for key in ("no_fetch", "strict", "block_on_failure", "require_on_completion")
            },
        },
        role_timeouts_s={role: int(timeouts.get(role, default_timeout)) for role in roles or ROLES},
        roles=tuple(roles) or ROLES,
        runner=_runner(config),
    )


def _part(loop: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = loop.get(key)
    return part if isinstance(part, dict) else {}


def _runner(config: Mapping[str, Any]) -> str:
    for runner in _part(config, "runners").values():
        command = runner.get("command") if isinstance(runner, dict) else None
        if command:
            return str(command[0])
    return "mock-sprite-runner.sh"

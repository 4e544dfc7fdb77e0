"""`superloop.sh status` and `list`: what the files say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sprite.standin.config import load_config
from sprite.standin.console import say
from sprite.standin.disk import RepoFiles, read_object

_GATES = ("tests", "validation", "prerequisites", "checklist", "evidence", "approval")
_DELEGATION = ("roles", "enabled_roles", "children", "failed", "recon_violations")


def print_state(files: RepoFiles) -> int:
    """Print state.json as it is."""
    try:
        say(files.state.read_text("utf-8", errors="replace").rstrip("\n"))
    except FileNotFoundError:
        say("No state file found.")
    return 0


def print_summary(files: RepoFiles, config: Path, loop_id: str | None) -> int:
    """Print one line about the last summary entry of a loop (without one: the first loop of the config)."""
    chosen = loop_id or str(load_config(config)["loops"][0]["id"])
    summary = read_object(files.loop(chosen) / "run-summary.json")
    entries = summary.get("entries")
    if not entries:
        say(f"No run summary found for loop '{chosen}'.")
        return 0
    words = _summary_words(chosen, str(summary.get("updated_at", "")), entries[-1])
    say(" ".join(f"{key}={word}" for key, word in words.items()))
    return 0


def _summary_words(loop_id: str, updated_at: str, entry: Mapping[str, Any]) -> dict[str, object]:
    gates = entry.get("gates", {})
    evidence = entry.get("artifacts", {}).get("evidence", {})
    return {
        "loop": loop_id,
        "run_id": entry.get("run_id"),
        "iteration": entry.get("iteration"),
        "updated_at": updated_at,
        "promise": _word(entry.get("promise", {}).get("matched")),
        **{gate: gates.get(gate, "unknown") for gate in _GATES},
        **{f"delegation_{key}": 0 for key in _DELEGATION},
        "evidence_file": evidence.get("path", ""),
        "evidence_exists": _word(evidence.get("exists", False)),
        "evidence_sha256": evidence.get("sha256", ""),
        "evidence_mtime": evidence.get("mtime", ""),
    }


def _word(value: object) -> str:
    return "true" if value is True else "false"


def print_list(files: RepoFiles, config: Path) -> int:
    """List the loops of the config. Like the runtime's, the status column is wrong for finished loops."""
    state = read_object(files.state)
    for loop in load_config(config)["loops"]:
        running = state.get("active") is True and state.get("current_loop_id") == loop["id"]
        say(f"{loop['id']}\t{'RUNNING' if running else 'STOPPED'}")
    return 0

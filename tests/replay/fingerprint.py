"""The shape of the workflow: every call in `workflows/` that makes a command, in the order in which it is written.

    .venv/bin/python -m tests.replay.fingerprint          says what has changed since it was accepted
    .venv/bin/python -m tests.replay.fingerprint accept   accepts the shape as it is now (`make fingerprint`)

A command is what Temporal writes into history: an activity, a timer, a patch marker, search attributes, the
continue-as-new. Running supervisors replay the code with their old histories, so a command more, less or elsewhere
wedges them, unless it is under `workflow.patched`. Durations, texts and retry policies may change freely and are not
part of the shape.
"""

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "workflows"
ACCEPTED = Path(__file__).with_name("fingerprint.txt")

_OF_THE_SDK = frozenset(
    {
        "start_activity", "execute_activity", "start_activity_method", "execute_activity_method",
        "start_local_activity", "execute_local_activity", "start_child_workflow", "execute_child_workflow",
        "sleep", "continue_as_new",
        "upsert_search_attributes", "upsert_memo", "patched", "deprecate_patch", "get_external_workflow_handle",
        "create_nexus_client",
    }
)  # fmt: skip
_OF_REMOTE = "remote"
"""The module that calls activities for all others: a call of it is a command where it stands."""
HOW = (
    "The workflow makes its commands elsewhere than before, which wedges the supervisors that run now. Put what is new "
    "under workflow.patched(...), and keep what was (docs/changing-the-workflow.md); when the kept histories replay, "
    "accept the new shape with: make fingerprint"
)


def fingerprint(room: Path = ROOM) -> list[str]:
    """One line for every call that makes a command: module, function, call."""
    return [
        f"{path.stem}: {line}" for path in sorted(room.glob("*.py")) for line in calls(path.read_text(encoding="utf-8"))
    ]


def calls(source: str) -> list[str]:
    """The calls of one module, in the order of the source."""
    return list(_in_scope(ast.parse(source), "<module>"))


def _in_scope(node: ast.AST, scope: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = child.name if scope == "<module>" else f"{scope}.{child.name}"
        told = _command(child) if isinstance(child, ast.Call) else None
        if told:
            yield f"{inner}: {told}"
        yield from _in_scope(child, inner)


def _command(call: ast.Call) -> str | None:
    called = call.func
    if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name)):
        return None
    owner, name = called.value.id, called.attr
    if owner == "workflow" and name in _OF_THE_SDK:
        # What an activity or a patch is called is part of the shape; how long a timer takes is not.
        named = name.endswith("activity") or "patch" in name
        return f"workflow.{name}({ast.unparse(call.args[0]) if named and call.args else ''})"
    if owner in ("workflow", "asyncio") and name in ("wait_condition", "wait_for", "timeout"):
        timed = name != "wait_condition" or any(keyword.arg == "timeout" for keyword in call.keywords)
        return f"{owner}.{name}(timeout)" if timed else None
    if owner == "asyncio" and name == "sleep":
        return "asyncio.sleep()"
    return f"remote.{name}()" if owner == _OF_REMOTE and not name.startswith(("why", "never_")) else None


def difference() -> list[str]:
    """What has changed since the shape was accepted; empty when nothing has."""
    accepted = ACCEPTED.read_text(encoding="utf-8").splitlines() if ACCEPTED.exists() else []
    return [
        line
        for line in difflib.unified_diff(accepted, fingerprint(), "accepted", "now", lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]


def main(arguments: list[str]) -> int:
    """Compare, or accept; 1 when the shape has changed and was not accepted."""
    if arguments == ["accept"]:
        ACCEPTED.write_text("\n".join(fingerprint()) + "\n", encoding="utf-8")
        return 0
    changed = difference()
    if changed:
        print("\n".join([*changed, HOW]))
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

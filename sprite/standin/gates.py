"""The gates of an iteration: each writes its start event, works, writes its report and its end event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sprite.standin.disk import now, pretty
from sprite.standin.events import lifecycle_start_data, prerequisites_start_data
from sprite.standin.scenario import IterationScript
from sprite.standin.summary import GATES
from sprite.standin.work import LoopRun

Data = dict[str, Any]


def promise_of(run: LoopRun, script: IterationScript, *, none_printed: str | None) -> Data:
    """Return the promise as events and summary show it; `none_printed` is the text where none was printed."""
    expected = run.config.promise
    return {"expected": expected, "text": expected if script.promise else none_printed, "matched": script.promise}


def play_gates(run: LoopRun, script: IterationScript, iteration: int) -> dict[str, str]:
    """Check the promise, then gate after gate; return the status of each gate in the order of the summary."""

    def emit(event: str, data: Mapping[str, Any]) -> None:
        run.log.emit(event, run.run_id, iteration, data=data)

    emit("promise_checked", promise_of(run, script, none_printed=""))
    met = {}
    for name, (start, end, report) in _GATES.items():
        emit(f"{name}_start", start(run))
        run.pause(run.pace.gate_ms)
        result = end(run, script)
        if report:
            run.disk.write(run.folder / report, pretty(result.get("details", result)))
        emit(f"{name}_end", result)
        met[name] = str(result["status"])
    return {gate: met[gate] for gate in GATES}


def _checklist_start(run: LoopRun) -> Data:
    return {"patterns": list(run.config.checklists)}


def _checklist_end(run: LoopRun, script: IterationScript) -> Data:
    met = script.checklist == "ok"
    run.disk.write(run.folder / "checklist-remaining.md", "" if met else "- [ ] open item\n")
    details = {"ok": met, "remaining": 0 if met else 1, "generated_at": now()}
    return {"status": script.checklist, "ok": met, "details": details}


def _tests_start(run: LoopRun) -> Data:
    return {"mode": run.config.tests_mode, "commands": list(run.config.test_commands)}


def _tests_end(run: LoopRun, script: IterationScript) -> Data:
    met = script.tests != "failed"
    run.disk.write(run.folder / "test-output.txt", f"tests: {script.tests}\n")
    outcome = {"skipped": True} if script.tests == "skipped" else {"exit_code": 0 if met else 1}
    return {"status": script.tests, "details": {"ok": met, **outcome, "generated_at": now()}}


def _validation_start(run: LoopRun) -> Data:
    return {"enabled": "false", "mode": "every"}


def _prerequisites_start(run: LoopRun) -> Data:
    return dict(prerequisites_start_data())


def _skipped(run: LoopRun, script: IterationScript) -> Data:
    return {"status": "skipped", "results_file": ""}


def _evidence_start(run: LoopRun) -> Data:
    return {"enabled": "true"}


def _evidence_end(run: LoopRun, script: IterationScript) -> Data:
    return {"status": "ok", "evidence_file": run.files.relative(run.folder / "evidence.json")}


def _lifecycle_start(run: LoopRun) -> Data:
    return dict(lifecycle_start_data(run.config))


def _lifecycle_end(run: LoopRun, script: IterationScript) -> Data:
    met = script.outcome != "lifecycle_gate"
    audit, output = run.folder / "lifecycle-audit.json", run.folder / "lifecycle-audit.txt"
    run.disk.write(audit, pretty({"ok": met, "findings": []}))
    run.disk.write(output, f"lifecycle: {'ok' if met else 'failed'}\n")
    files = {"audit_file": run.files.relative(audit), "output_file": run.files.relative(output)}
    return {"status": "ok" if met else "failed", "ok": met, **files}


# In the order of the events: what starts a gate, what ends it, and the file that holds its result.
_GATES: Mapping[str, tuple[Callable[[LoopRun], Data], Callable[[LoopRun, IterationScript], Data], str | None]] = {
    "checklist": (_checklist_start, _checklist_end, "checklist-status.json"),
    "tests": (_tests_start, _tests_end, "test-status.json"),
    "validation": (_validation_start, _skipped, None),
    "prerequisites": (_prerequisites_start, _skipped, "prerequisites-status.json"),
    "evidence": (_evidence_start, _evidence_end, "evidence.json"),
    "lifecycle": (_lifecycle_start, _lifecycle_end, "lifecycle-status.json"),
}

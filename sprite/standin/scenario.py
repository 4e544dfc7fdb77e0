"""The scenario file: what the stand-in runtime does, and how fast.

Read from `.superloop/standin.json` of the repo, or from the path in `SUPERLOOP_STANDIN_SCENARIO`; without one, every
run has a single iteration that completes, at a pace a person can follow. Unknown keys are refused.

    {
      "pace_ms": {"role": 1000},              how long things take; see `Pace`
      "event_chunk_bytes": 4096,              event lines reach the disk in writes of at most this size (0: one write)
      "distinct_run_ids": true,               a run waits for the next second rather than take a used run id (default)
      "stop": "approve:2:kill",               a stop in the middle of a command; see `sprite.standin.stops`
      "loops": {
        "demo": {
          "max_iterations": 5,                these three override .superloop/config.json
          "approval_required": true,
          "stuck_threshold": 3,               0: stuck detection off
          "runs": [
            {"iterations": [{"outcome": "continue"}, {"outcome": "candidate"}]},
            {"iterations": [{"outcome": "hang", "role": "implementer"}]}
          ]
        }
      }
    }

`runs` are used in order, the last one again and again. A run counts when its `loop_start` is in events.jsonl, except
the runs that only wait for an approval or consume it: those do no work and follow no script. Keys of a run:

    iterations    used in order, the last one again and again until the run ends
    crash_after   name of an event: the process is killed (SIGKILL) once it has written that event
    ignore_term   true: the run ignores SIGTERM, so that `cancel` has to kill it

Keys of an iteration:

    outcome       one of `OUTCOMES`, default candidate
    role          the role at which role_error, role_timeout, rate_limit, usage_limit, hang and crash strike
                  (default implementer), and the one that `wait_for` holds up
    roles         {role: milliseconds} instead of pace_ms.role; for role_timeout the time until it is given up
    wait_for      a path in the repo: `role` goes on working until that file exists
    promise       true | false; tests  ok | failed | skipped; checklist  ok | remaining
                  (default: what the outcome needs; a `continue` needs at least one that is not met)
    extra_events  [{"after": "tests_end", "event": "...", "role"?, "status"?, "data"?}] written after that event
                  (default after: iteration_start), for the event families that the plain run does not have

The real runtime counts every unfinished iteration towards `stuck`, even one that made progress: with a stuck_threshold
of 3, the third `continue` in a row ends as stuck, here too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

SCENARIO_FILE = ".superloop/standin.json"
SCENARIO_ENV = "SUPERLOOP_STANDIN_SCENARIO"

OUTCOMES: Mapping[str, str] = {
    "candidate": "every gate is met: the loop completes, or asks for approval",
    "continue": "some gate is not met: the next iteration follows",
    "role_error": "a role exits with an error: no event, state stays active, exit 1",
    "role_timeout": "a role is given up: role_timeout, exit 1",
    "rate_limit": "a role is rate limited: rate_limit_stop, state stays active, exit 1",
    "usage_limit": "a usage limit blocks a role: usage_limit_blocked, exit 1",
    "no_progress": "nothing changed and the checklist is open: no_progress_stop, loop_stop, exit 1",
    "stuck": "stuck detection triggers: loop_stop, exit 1",
    "lifecycle_gate": "the lifecycle gate fails: loop_stop, exit 1",
    "hang": "a role never ends",
    "crash": "the run process is killed (SIGKILL) while a role works",
}

_STOPPABLE = ("approve", "reject", "cancel")
_STOPS = ("kill", "hold")

FAST_PACE_MS: Mapping[str, int] = {
    "validate": 10, "config": 15, "role": 15, "gate": 1, "summary": 10, "truncate": 2, "between_loops": 10,
    "cancel_poll": 10,
}  # fmt: skip
"""For tests: a run of one iteration in about a quarter of a second."""

RECORDED_PACE_MS: Mapping[str, int] = {
    "validate": 1500, "config": 1600, "role": 700, "gate": 120, "summary": 1500, "truncate": 18, "between_loops": 2000,
    "cancel_poll": 1000,
}  # fmt: skip
"""As the real runtime was measured, with a runner that answers at once."""


class ScenarioError(ValueError):
    """The scenario cannot be used; the message names the file, the place in it and what is allowed there."""


class Pace(NamedTuple):
    """How long the phases of a run take, in milliseconds."""

    validate_ms: int = 500
    """Validation of the config; nothing is on disk yet."""
    config_ms: int = 700
    """Between the loop's folder and its `loop_start`."""
    role_ms: int = 1000
    """One role at work."""
    gate_ms: int = 40
    """One step between two events of the gates."""
    summary_ms: int = 500
    """Between `iteration_end` and the entry in run-summary.json."""
    truncate_ms: int = 18
    """How long a file that is truncated, then written, stays empty."""
    between_loops_ms: int = 700
    """Between two loops of a run without --loop."""
    event_chunk_ms: int = 5
    """Between two writes of one event line, if `event_chunk_bytes` splits it."""
    cancel_poll_ms: int = 100
    """How often `cancel` looks whether the run has ended."""
    cancel_term_ms: int = 10_000
    """How long `cancel` waits after SIGTERM before it kills."""


class ExtraEvent(NamedTuple):
    """An event to be written after another one."""

    after: str
    event: str
    role: str | None = None
    status: str | None = None
    data: Any = None


class IterationScript(NamedTuple):
    """What happens in one iteration."""

    outcome: str = "candidate"
    role: str = "implementer"
    roles_ms: Mapping[str, int] = MappingProxyType({})
    wait_for: str | None = None
    promise: bool = True
    tests: str = "ok"
    checklist: str = "ok"
    extra_events: tuple[ExtraEvent, ...] = ()


class RunScript(NamedTuple):
    """What happens in one run."""

    iterations: tuple[IterationScript, ...] = (IterationScript(),)
    crash_after: str | None = None
    ignore_term: bool = False

    def iteration(self, number: int) -> IterationScript:
        """Return the script of iteration `number` (from 1); the last one repeats."""
        return self.iterations[min(number, len(self.iterations)) - 1]


class LoopScript(NamedTuple):
    """What happens in the runs of one loop; None leaves a setting to config.json."""

    runs: tuple[RunScript, ...] = (RunScript(),)
    max_iterations: int | None = None
    approval_required: bool | None = None
    stuck_threshold: int | None = None

    def run(self, index: int) -> RunScript:
        """Return the script of the run with this index (from 0); the last one repeats."""
        return self.runs[min(index, len(self.runs) - 1)]


class StopScript(NamedTuple):
    """Where a command stops, and how; see `sprite.standin.stops`."""

    command: str
    effects: int
    """After so many; 0: before the first."""
    action: str


class Scenario(NamedTuple):
    """The whole scenario file."""

    pace: Pace = Pace()
    event_chunk_bytes: int = 0
    distinct_run_ids: bool = True
    loops: Mapping[str, LoopScript] = MappingProxyType({})
    stop: StopScript | None = None

    def loop(self, loop_id: str) -> LoopScript:
        """Return the script of a loop; one that completes in its first iteration if the file has none."""
        return self.loops.get(loop_id, LoopScript())


def load_scenario(repo: Path) -> Scenario:
    """Read the scenario for a repo.

    Raises:
        ScenarioError: the file named by the environment is missing, is not JSON, or holds something unknown.
    """
    named = os.environ.get(SCENARIO_ENV)
    path = Path(named) if named else repo / SCENARIO_FILE
    if not named and not path.exists():
        return Scenario()
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path}: cannot be read as JSON: {error}") from None
    try:
        return parse_scenario(document)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None


def parse_scenario(document: object) -> Scenario:
    """Turn the parsed JSON of a scenario file into a `Scenario`.

    Raises:
        ScenarioError: an unknown key or a wrong type, with its place.
    """
    top = _object(document, "", ("pace_ms", "event_chunk_bytes", "distinct_run_ids", "loops", "stop"))
    distinct = _flag(top.get("distinct_run_ids"), "distinct_run_ids")
    loops = _object(top.get("loops", {}), "loops")
    return Scenario(
        pace=_pace(top.get("pace_ms", {})),
        event_chunk_bytes=_count(top.get("event_chunk_bytes", 0), "event_chunk_bytes"),
        distinct_run_ids=distinct is not False,
        loops={loop_id: _loop(loop, f"loops.{loop_id}") for loop_id, loop in loops.items()},
        stop=None if top.get("stop") is None else parse_stop(top["stop"], "stop"),
    )


def parse_stop(value: object, where: str) -> StopScript:
    """Read `<command>:<effects>:<action>`; raises ScenarioError."""
    command, _, rest = (_text(value, where) or "").partition(":")
    effects, _, action = rest.partition(":")
    if command not in _STOPPABLE or not effects.isdecimal() or action not in _STOPS:
        told = f"{'|'.join(_STOPPABLE)}, a number of effects and {'|'.join(_STOPS)}, such as approve:2:kill"
        raise ScenarioError(f"{where}: must be {told}, not {json.dumps(value)}")
    return StopScript(command, int(effects), action)


def _pace(value: object) -> Pace:
    keys = [name.removesuffix("_ms") for name in Pace._fields]
    pace = _object(value, "pace_ms", keys)
    return Pace(**{f"{key}_ms": _count(item, f"pace_ms.{key}") for key, item in pace.items()})


def _loop(value: object, where: str) -> LoopScript:
    loop = _object(value, where, ("runs", "max_iterations", "approval_required", "stuck_threshold"))
    runs = _list(loop.get("runs", [{}]), f"{where}.runs")
    if not runs:
        raise ScenarioError(f"{where}.runs: is empty; leave it out for runs that complete at once")
    maximum, threshold = loop.get("max_iterations"), loop.get("stuck_threshold")
    return LoopScript(
        runs=tuple(_run(run, f"{where}.runs[{index}]") for index, run in enumerate(runs)),
        max_iterations=None if maximum is None else _count(maximum, f"{where}.max_iterations", least=1),
        approval_required=_flag(loop.get("approval_required"), f"{where}.approval_required"),
        stuck_threshold=None if threshold is None else _count(threshold, f"{where}.stuck_threshold"),
    )


def _run(value: object, where: str) -> RunScript:
    run = _object(value, where, ("iterations", "crash_after", "ignore_term"))
    iterations = _list(run.get("iterations", [{}]), f"{where}.iterations")
    if not iterations:
        raise ScenarioError(f"{where}.iterations: is empty; leave it out for a run that completes at once")
    return RunScript(
        iterations=tuple(_iteration(item, f"{where}.iterations[{index}]") for index, item in enumerate(iterations)),
        crash_after=_text(run.get("crash_after"), f"{where}.crash_after"),
        ignore_term=bool(_flag(run.get("ignore_term"), f"{where}.ignore_term")),
    )


def _iteration(value: object, where: str) -> IterationScript:
    allowed = ("outcome", "role", "roles", "wait_for", "promise", "tests", "checklist", "extra_events")
    item = _object(value, where, allowed)
    outcome = _choice(item.get("outcome", "candidate"), f"{where}.outcome", OUTCOMES)
    extra = _list(item.get("extra_events", []), f"{where}.extra_events")
    explicit = any(key in item for key in ("promise", "tests", "checklist"))
    promised = _flag(item.get("promise"), f"{where}.promise")
    script = IterationScript(
        outcome=outcome,
        role=_text(item.get("role"), f"{where}.role") or "implementer",
        roles_ms={
            role: _count(spent, f"{where}.roles.{role}")
            for role, spent in _object(item.get("roles", {}), f"{where}.roles").items()
        },
        wait_for=_text(item.get("wait_for"), f"{where}.wait_for"),
        promise=promised if promised is not None else outcome == "candidate" or (outcome == "continue" and explicit),
        tests=_choice(item.get("tests", "ok"), f"{where}.tests", ("ok", "failed", "skipped")),
        checklist=_choice(
            item.get("checklist", "remaining" if outcome == "no_progress" else "ok"),
            f"{where}.checklist",
            ("ok", "remaining"),
        ),
        extra_events=tuple(_extra(entry, f"{where}.extra_events[{index}]") for index, entry in enumerate(extra)),
    )
    met = script.promise and script.tests != "failed" and script.checklist == "ok"
    if outcome in ("candidate", "continue") and met != (outcome == "candidate"):
        wanted = "needs every gate met" if outcome == "candidate" else "needs a gate that is not met"
        raise ScenarioError(f"{where}: outcome {outcome!r} {wanted}; see promise, tests and checklist")
    return script


def _extra(value: object, where: str) -> ExtraEvent:
    extra = _object(value, where, ("after", "event", "role", "status", "data"))
    name = _text(extra.get("event"), f"{where}.event")
    if not name:
        raise ScenarioError(f"{where}: has no 'event', the name of the event to write")
    return ExtraEvent(
        after=_text(extra.get("after"), f"{where}.after") or "iteration_start",
        event=name,
        role=_text(extra.get("role"), f"{where}.role"),
        status=_text(extra.get("status"), f"{where}.status"),
        data=extra.get("data"),
    )


def _object(value: object, where: str, allowed: Iterable[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ScenarioError(f"{where or 'the file'}: must be an object, not {_kind(value)}")
    if allowed is not None:
        known = list(allowed)
        for key in value:
            if key not in known:
                raise ScenarioError(f"{where + ': ' if where else ''}unknown key {key!r}; {_hint(key, known)}")
    return value


def _hint(word: str, known: Iterable[str]) -> str:
    import difflib  # costly, and only a mistake needs it

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ScenarioError(f"{where}: must be an array, not {_kind(value)}")
    return value


def _count(value: object, where: str, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ScenarioError(f"{where}: must be a whole number of at least {least}, not {json.dumps(value)}")
    return value


def _flag(value: object, where: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ScenarioError(f"{where}: must be true or false, not {json.dumps(value)}")
    return value


def _text(value: object, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ScenarioError(f"{where}: must be a string, not {_kind(value)}")
    return value


def _choice(value: object, where: str, allowed: Iterable[str]) -> str:
    known = list(allowed)
    if not isinstance(value, str) or value not in known:
        raise ScenarioError(f"{where}: {json.dumps(value)} is unknown; {_hint(str(value), known)}")
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

"""Histories of earlier days: today's code has to make their commands again and come to the state they ended in.

`tests.replay.record` made them. A failure here means that a supervisor which runs now would not survive this change.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory

from incidents.replay import replay
from tests.harness import carried_report, comparable, started_with
from tests.harness_sprite import TOKEN
from tests.replay.record import FOLDER, HISTORIES, SCENES
from workflows.state import SupervisorState

KEPT = sorted(path for path in HISTORIES.glob("*.json") if not path.name.endswith(".status.json"))


def _load(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(path.stem, path.read_text())


def _next_run(path: Path) -> Path | None:
    found = re.fullmatch(r"(.+)-(\d+)", path.stem)
    following = path.with_name(f"{found[1]}-{int(found[2]) + 1}.json") if found else None
    return following if following and following.exists() else None


def _expected(path: Path) -> dict[str, Any]:
    """The state a history ended in: what the next run was given, or else what the live workflow reported."""
    following = _next_run(path)
    if following is not None:
        told, carried = comparable(carried_report(_load(following))), started_with(_load(following)).carried or {}
        gained = SupervisorState.model_fields.keys() - carried
        return {name: value for name, value in told.items() if name not in gained}
    expected: dict[str, Any] = json.loads(path.with_name(f"{path.stem}.status.json").read_text())
    return expected


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
async def test_kept_history_replays_to_the_state_it_ended_in(path: Path) -> None:
    replayed = await replay(_load(path))
    assert replayed.failure is None, replayed.failure
    assert replayed.status is not None
    # What the report has gained since is not in the file; what the file has must be said as it was.
    assert _without_news(comparable(replayed.status), _expected(path)) == _expected(path)


def _without_news(now: Any, then: Any) -> Any:
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: _without_news(value, then[key]) for key, value in now.items() if key in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [_without_news(*pair) for pair in zip(now, then, strict=True)]
    return now


def test_every_scene_is_kept_and_one_of_them_is_a_chain_of_runs() -> None:
    scenes = {re.sub(r"-\d+$", "", path.stem) for path in KEPT}
    assert scenes == set(SCENES)
    assert any(_next_run(path) for path in KEPT)


async def test_history_with_another_command_is_noticed() -> None:
    text = (HISTORIES / "cancel.json").read_text()
    changed = text.replace('"name": "execute_control"', '"name": "execute"')
    assert changed != text
    replayed = await replay(WorkflowHistory.from_json("cancel", changed))
    assert "execute" in str(replayed.failure)


async def test_history_with_another_observation_comes_to_another_state() -> None:
    # A replay compares commands only: without looking at the state this would pass unnoticed.
    path = HISTORIES / "approve-consume.json"
    history = json.loads(path.read_text())
    results = [
        payload
        for event in history["events"]
        for payload in event.get("activityTaskCompletedEventAttributes", {}).get("result", {}).get("payloads", [])
    ]
    for payload in results:
        told = base64.b64decode(payload["data"]).decode().replace('"loop_complete"', '"a_new_event"')
        payload["data"] = base64.b64encode(told.encode()).decode()
    replayed = await replay(WorkflowHistory.from_json(path.stem, json.dumps(history)))
    assert replayed.status is not None
    assert _expected(path)["lifecycle"] == "complete"
    assert replayed.status.lifecycle != "complete"


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_history_holds_no_secret_and_no_path_of_the_machine_it_was_made_on(path: Path) -> None:
    text = path.read_text()
    decoded = [base64.b64decode(data) for data in re.findall(r'"data":\s*"([A-Za-z0-9+/=]+)"', text)]
    assert decoded
    readable = text + b"\n".join(decoded).decode("utf-8", "replace")
    assert TOKEN not in readable
    paths = set(re.findall(r"(?<![\w.:/])(/(?:root|home|Users|work|tmp|srv|opt|usr|var)/[^\s\"'\\]*)", readable))
    assert {path for path in paths if not path.startswith(f"{FOLDER}/")} == set()

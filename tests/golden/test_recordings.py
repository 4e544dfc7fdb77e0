"""What the reference adapter printed for every captured step of the real runtime, against what ours says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract.envelopes import EventsPage, SnapshotEnvelope
from sprite.errors import ArtifactUnreadable, SpriteError
from sprite.processes import ScanResult
from sprite.reader import SpriteReader
from tests.recordings.unpack import SCENARIOS, recordings_root

CAPTURES_WITH_FOLDER = 199


class Capture(NamedTuple):
    """One step's artifacts, and what the reference answered for one loop of it."""

    folder: Path
    loop_id: str
    expected: dict[str, Any]
    recorded_repo: str

    def snapshot(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "expected-snapshot.json").read_text()))


def captures(scenario: str) -> Iterator[Capture]:
    for folder in sorted((recordings_root() / scenario).glob("step-*")):
        expected = json.loads((folder / "expected.json").read_text())
        for loop_id, answers in expected["loops"].items():
            yield Capture(folder, loop_id, answers, expected["repo"])


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


def reader_of(capture: Capture, state_dir: Path) -> SpriteReader:
    return SpriteReader(capture.folder, state_dir=state_dir, process_scan=lambda _: ScanResult())


def without_additions(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The base contract's part, without the time and place of the reading."""
    base = {key: value for key, value in snapshot.items() if key != "spriteId"}
    base["runtime"] = {key: value for key, value in snapshot["runtime"].items() if key != "process"}
    return without_circumstances(base)


def without_circumstances(envelope: dict[str, Any]) -> dict[str, Any]:
    return {**envelope, "emittedAt": None, "source": {**envelope["source"], "repoPath": None}}


def test_recordings_given_are_all_compared() -> None:
    assert sum(1 for scenario in SCENARIOS for _ in captures(scenario)) == CAPTURES_WITH_FOLDER


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_snapshot_of_every_step_equals_reference_to_the_order_of_keys(scenario: str, state_dir: Path) -> None:
    compared = 0
    for capture in captures(scenario):
        if capture.expected["snapshotExit"] != 0:
            continue
        ours = reader_of(capture, state_dir).snapshot(capture.loop_id)
        theirs = without_circumstances(capture.snapshot())
        assert without_additions(ours) == theirs, capture.folder.name
        assert json.dumps(without_additions(ours)) == json.dumps(theirs), capture.folder.name
        SnapshotEnvelope.read(ours, loop_id=capture.loop_id)
        compared += 1
    assert compared


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_step_without_reference_snapshot_is_an_error(scenario: str, state_dir: Path) -> None:
    refused = 0
    for capture in captures(scenario):
        if capture.expected["snapshotExit"] == 0:
            continue
        refused += 1
        with pytest.raises(SpriteError) as caught:
            reader_of(capture, state_dir).snapshot(capture.loop_id)
        theirs = capture.expected["snapshotStderr"].replace(capture.recorded_repo, str(capture.folder))
        if theirs.startswith("error: "):
            assert theirs == f"error: {caught.value.message}"
        else:  # what jq said of an empty file
            assert isinstance(caught.value, ArtifactUnreadable)
            assert str(capture.folder / ".superloop" / "state.json") in caught.value.message
    assert refused


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_events_of_every_step_are_counted_as_the_reference_does(scenario: str, state_dir: Path) -> None:
    for capture in captures(scenario):
        reader = reader_of(capture, state_dir)
        if capture.expected["pollExit"] == 0:
            cursor = reader.events_page(capture.loop_id)["cursor"]
            assert capture.expected["cursorAfter"].items() <= cursor.items(), capture.folder.name
        else:
            with pytest.raises(SpriteError):
                reader.events_page(capture.loop_id)


@pytest.mark.parametrize("page_size", [0, 7, 1])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_events_of_last_step_equal_reference_in_pages_of_any_size(
    scenario: str, page_size: int, state_dir: Path
) -> None:
    last = list(captures(scenario))[-1]
    reader = reader_of(last, state_dir)
    ours: list[dict[str, Any]] = []
    line, count = 0, 1
    while line < count:
        page = reader.events_page(last.loop_id, cursor=line, max_events=page_size)
        EventsPage.read(page, loop_id=last.loop_id, after_line=line)
        line, count = page["cursor"]["eventLineOffset"], page["cursor"]["eventLineCount"]
        ours += page["events"]
    lines = (last.folder / "expected-events.ndjson").read_text().splitlines()
    theirs = [without_circumstances(json.loads(line)) for line in lines]
    assert [json.dumps(without_circumstances(envelope)) for envelope in ours] == [json.dumps(one) for one in theirs]

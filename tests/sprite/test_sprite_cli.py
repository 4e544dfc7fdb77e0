"""`ops-manager sprite snapshot|events` as a person or a script uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.errors import CommandError, NotFound, Refused, TransportProblem, UsageProblem
from cli.sprite_commands import sprite_group
from tests.sprite.logs import event_line, expected_of, log_of
from tests.sprite.repos import LOOP, Repo, write_json


@pytest.fixture(autouse=True)
def state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPS_MANAGER_STATE_DIR", str(tmp_path / "state"))


def sprite(*arguments: object, repo: Repo, loop: str = LOOP) -> tuple[list[dict[str, Any]], str]:
    """What the command printed: JSON lines and stderr. Raises what ends it."""
    words = [*map(str, arguments), "--repo", str(repo.path), "--loop", loop]
    result = CliRunner().invoke(sprite_group, words, catch_exceptions=False, standalone_mode=False)
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def lines_of(envelopes: list[dict[str, Any]]) -> list[int]:
    return [envelope["cursor"]["eventLineOffset"] for envelope in envelopes]


def test_snapshot_is_one_line_with_the_trace_id(repo: Repo) -> None:
    (envelope,), told = sprite("snapshot", "--trace-id", "t-1", repo=repo.with_events())
    assert envelope["envelopeType"] == "loop_run_snapshot"
    assert envelope["traceId"] == "t-1"
    assert told == ""


def test_snapshot_for_people_is_indented_and_the_same(repo: Repo) -> None:
    words = ["snapshot", "--pretty", "--repo", str(repo.with_events().path), "--loop", LOOP]
    printed = CliRunner().invoke(sprite_group, words, catch_exceptions=False).stdout
    assert printed.startswith('{\n  "schemaVersion": "v1",\n')
    assert json.loads(printed)["cursor"] == {"eventLineOffset": 3, "eventLineCount": 3}


def test_text_that_cannot_be_encoded_is_mended_wherever_it_comes_from(repo: Repo) -> None:
    repo.with_events(event_line(1, run_id="r\udfff"))
    for words in (["snapshot"], ["snapshot", "--pretty"], ["events"]):
        result = CliRunner().invoke(
            sprite_group,
            [*words, "--trace-id", "t\udcff", "--repo", str(repo.path), "--loop", LOOP],
            catch_exceptions=False,
        )
        envelope = json.loads(result.stdout)
        assert (envelope["run"]["runId"], envelope["traceId"]) == ("r\ufffd", "t\ufffd")


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
def test_output_that_cannot_be_written_is_told_in_one_line(repo: Repo, redirection: str) -> None:
    program = Path(sys.executable).parent / "ops-manager"
    command = f"{program} sprite snapshot --repo {repo.with_events().path} --loop {LOOP} {redirection}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("The output cannot be written: ")
    assert len(done.stderr.splitlines()) == 1


def test_events_without_a_cursor_begin_at_the_start(repo: Repo) -> None:
    repo.with_events(log_of(3))
    assert lines_of(sprite("events", repo=repo)[0]) == [1, 2, 3]
    assert lines_of(sprite("events", "--from-start", repo=repo)[0]) == [1, 2, 3]
    assert lines_of(sprite("events", "--cursor", 2, repo=repo)[0]) == [3]
    assert lines_of(sprite("events", "--cursor", 3, repo=repo)[0]) == []
    assert lines_of(sprite("events", "--cursor", 1, "--max-events", 1, repo=repo)[0]) == [2]


def test_events_of_many_pages_are_all_printed(repo: Repo) -> None:
    repo.with_events(b'{"event":"e","timestamp":"t"}\n' * 5_002)
    assert lines_of(sprite("events", repo=repo)[0]) == list(range(1, 5_003))
    assert len(sprite("events", "--max-events", 5_001, repo=repo)[0]) == 5_001


def test_line_that_is_no_event_is_named_on_stderr(repo: Repo) -> None:
    envelopes, told = sprite("events", repo=repo.with_events(log_of(1) + b"\x1b[31mbad\n" + event_line(3)))
    assert lines_of(envelopes) == [1, 3]
    assert told.startswith("warning: line 2 of demo is no event: not JSON")
    assert told.count("\n") == 1


def test_cursor_file_goes_on_where_it_ended(repo: Repo, tmp_path: Path) -> None:
    repo.with_events(log_of(3))
    file = tmp_path / "cursor.json"
    assert lines_of(sprite("events", "--cursor-file", file, "--max-events", 2, repo=repo)[0]) == [1, 2]
    kept = json.loads(file.read_text())
    assert kept.items() >= {"schemaVersion": "v1", "repoPath": str(repo.path), "loopId": LOOP}.items()
    assert kept["cursor"].items() >= {"eventLineOffset": 2, "eventLineCount": 3}.items()
    assert kept["cursor"]["chain"] == expected_of(log_of(3)).chains[2]
    assert lines_of(sprite("events", "--cursor-file", file, repo=repo)[0]) == [3]
    assert lines_of(sprite("events", "--cursor-file", file, repo=repo)[0]) == []
    with repo.events.open("ab") as stream:
        stream.write(event_line(4))
    assert lines_of(sprite("events", "--cursor-file", file, repo=repo)[0]) == [4]
    assert lines_of(sprite("events", "--cursor-file", file, "--from-start", repo=repo)[0]) == [1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir() if "cursor" in path.name] == ["cursor.json"]


def test_cursor_file_with_only_the_contracts_fields_is_understood(repo: Repo, tmp_path: Path) -> None:
    file = tmp_path / "cursor.json"
    write_json(file, {"cursor": {"eventLineOffset": 1, "eventLineCount": 1, "updatedAt": "2026-11-22T03:00:00Z"}})
    assert lines_of(sprite("events", "--cursor-file", file, repo=repo.with_events())[0]) == [2, 3]


UNUSABLE: dict[str, str] = {
    "not JSON": "{",
    "no object": "[]",
    "no cursor": '{"schemaVersion":"v1","loopId":"demo"}',
    "no number": '{"cursor":{"eventLineOffset":"1"}}',
    "negative": '{"cursor":{"eventLineOffset":-1}}',
    "another loop": '{"loopId":"other","cursor":{"eventLineOffset":1}}',
    "another repo": '{"loopId":"demo","repoPath":"/other","cursor":{"eventLineOffset":1}}',
    "nested without end": "[" * 100_000,
    "another schema": '{"schemaVersion":"v2","cursor":{"eventLineOffset":1}}',
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_cursor_file_that_cannot_be_used_is_refused_and_left_alone(kind: str, repo: Repo, tmp_path: Path) -> None:
    file = tmp_path / "cursor.json"
    file.write_text(UNUSABLE[kind])
    with pytest.raises(UsageProblem, match=r"^error: cursor file"):
        sprite("events", "--cursor-file", file, repo=repo.with_events())
    assert file.read_text() == UNUSABLE[kind]


def test_cursor_file_of_a_log_that_was_rewritten_is_refused_and_left_alone(repo: Repo, tmp_path: Path) -> None:
    file = tmp_path / "cursor.json"
    sprite("events", "--cursor-file", file, repo=repo.with_events())
    kept = file.read_text()
    repo.with_events(log_of(5, run_id="another"))
    with pytest.raises(Refused, match="reset cursor or use --from-start"):
        sprite("events", "--cursor-file", file, repo=repo)
    assert file.read_text() == kept
    assert lines_of(sprite("events", "--cursor-file", file, "--from-start", repo=repo)[0]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "loop", "ending", "line"),
    [
        (["snapshot"], "nope", NotFound, "error: required artifact root missing: {repo}/.superloop/loops/nope"),
        (["events"], "nope", NotFound, "error: required artifact root missing: {repo}/.superloop/loops/nope"),
        (
            ["snapshot"],
            "new",
            TransportProblem,
            "error: required artifact missing: {repo}/.superloop/loops/new/events.jsonl",
        ),
        (
            ["events"],
            "new",
            TransportProblem,
            "error: required artifact missing: {repo}/.superloop/loops/new/events.jsonl",
        ),
        (["snapshot"], "../x", UsageProblem, "error: loopId '../x' must not contain a slash"),
        (
            ["events", "--cursor", "99"],
            LOOP,
            Refused,
            "error: cursor offset (99) exceeds available events (3); reset cursor or use --from-start",
        ),
        (
            ["events", "--cursor", "1", "--from-start"],
            LOOP,
            UsageProblem,
            "error: --cursor cannot be combined with --cursor-file or --from-start",
        ),
    ],
)
def test_where_there_is_no_envelope_there_is_one_line_and_a_code(
    arguments: list[str], loop: str, ending: type[CommandError], line: str, repo: Repo
) -> None:
    repo.with_events().loop_folder("new").mkdir()
    with pytest.raises(ending) as caught:
        sprite(*arguments, repo=repo, loop=loop)
    assert str(caught.value) == line.format(repo=repo.path)
    assert caught.value.exit_code != 0


def test_repo_that_does_not_exist_is_a_usage_problem(repo: Repo) -> None:
    repo.path = repo.path / "missing"
    with pytest.raises(UsageProblem, match=r"^error: repo .* is not a directory"):
        sprite("snapshot", repo=repo)


def test_state_that_stays_empty_is_told_in_one_line(repo: Repo) -> None:
    repo.with_events().state.write_text("")
    with pytest.raises(TransportProblem, match=r"^error: .*/state\.json is empty, and stayed so$"):
        sprite("snapshot", repo=repo)


def test_cursor_does_not_move_when_the_events_could_not_be_written(repo: Repo, tmp_path: Path) -> None:
    repo.with_events()
    file = tmp_path / "cursor.json"
    program = "import sys; from cli.sprite_commands import sprite_group; sprite_group()"
    words = ["events", "--repo", str(repo.path), "--loop", LOOP, "--cursor-file", str(file)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0
    assert not file.exists()


def test_output_is_utf8_whatever_the_locale(repo: Repo) -> None:
    repo.with_events(event_line(1, message="größer"))
    program = "import sys; from cli.sprite_commands import sprite_group; sprite_group()"
    words = ["events", "--repo", str(repo.path), "--loop", LOOP]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", program, *words], stdout=subprocess.PIPE, env=environment, check=True)
    assert json.loads(done.stdout.decode("utf-8"))["event"]["message"] == "größer"

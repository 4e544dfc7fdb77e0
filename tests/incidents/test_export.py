"""`incident export`: one file that holds everything, and nothing that it must not."""

import base64
import json
import re
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.supervision import SupervisorStart
from incidents import archive
from incidents.archive import ArchiveInvalid, read, without, write
from incidents.log import EventLog, LoggedLine
from incidents.states import replay_runs
from tests.cli.ops import Ops
from tests.harness import Supervisors
from tests.harness_sprite import LOOP, TOKEN, WAITING, Sprite
from tests.incidents.kept import kept_incident
from tests.incidents.scenes import LONG_STORY, chain_of_runs, taken
from tests.interop.independent import read_log

SECRET = 'a "quoted" secret'


def _everything_in(path: Path) -> str:
    """All members, with what histories hold in base64 decoded."""
    with zipfile.ZipFile(path) as file:
        text = "\n".join(file.read(name).decode() for name in file.namelist())
    decoded = (base64.b64decode(data) for data in re.findall(r'"data":\s*"([A-Za-z0-9+/=]+)"', text))
    return text + "\n".join(data.decode("utf-8", "replace") for data in decoded)


async def test_running_loop_is_exported_whole_and_agrees_with_its_log(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, LONG_STORY)
    loop = await chain_of_runs(supervise, sprite)
    run_ids = await loop.runs()
    path = tmp_path / "incident.zip"
    done = await ops("incident", "export", f"{name}/demo", "-o", str(path))
    assert done.code == 0, done
    assert done.out == f"{path}\n"
    assert path.stat().st_mode & 0o077 == 0

    incident = read(path)
    assert [run.run_id for run in incident.runs][: len(run_ids)] == run_ids
    assert [entry.ending for entry in incident.manifest.runs][:-1] == ["continued_as_new"] * (len(incident.runs) - 1)
    replayed = await replay_runs(incident.runs)
    assert replayed.failures == {}
    assert replayed.states[-1].report.lifecycle == "complete"
    assert incident.log is not None
    assert [line.raw for line in incident.log.lines] == sprite.events()
    assert incident.log.chain_at(incident.log.line_count) == read_log(sprite.log()).chain
    (report,) = incident.verified
    assert report.agreed is True


async def test_archive_holds_no_token_though_settings_and_log_have_one(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.run().wait()
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    leaked = {"timestamp": "2026-11-22T03:12:07Z", "event": "role_end", "loop_id": LOOP, "data": {"printed": TOKEN}}
    with (sprite.loop_folder / "events.jsonl").open("a") as log:
        log.write(json.dumps(leaked) + "\n")
    await taken(loop)

    path = tmp_path / "incident.zip"
    assert (await ops("incident", "export", f"{name}/demo", "-o", str(path))).code == 0
    assert TOKEN in sprite.log().decode()
    everything = _everything_in(path)
    assert TOKEN not in everything
    assert str(sprite.token_file) in everything  # the reference may be there
    incident = read(path)
    assert incident.log is not None
    # The line that was changed keeps the hash that it had, so the chain can still be computed.
    assert incident.log.chain_at(incident.log.line_count) == read_log(sprite.log()).chain
    assert incident.verified[0].agreed is True

    # What is told of a loop without an archive in between is handed on as well.
    await loop.release()
    with (sprite.loop_folder / "events.jsonl").open("a") as log:
        log.write(json.dumps({**leaked, "event": f"role_{TOKEN}"}) + "\n")
    page = tmp_path / "report.html"
    assert (await ops("incident", "report", f"{name}/demo", "-o", str(page))).code == 0
    assert TOKEN not in page.read_text()
    for command in ("timeline", "replay"):
        told = await ops("incident", command, f"{name}/demo", "-o", "json")
        assert told.code == 0, told
        assert TOKEN not in told.out


async def test_only_runs_that_overlap_the_time_are_taken_and_each_can_be_replayed(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, LONG_STORY)
    loop = await chain_of_runs(supervise, sprite)
    run_ids = await loop.runs()
    second = await loop.history(run_ids[1])
    began, ended = (second.events[at].event_time.ToDatetime(UTC) for at in (0, -1))
    middle = (began + (ended - began) / 2).isoformat()
    path = tmp_path / "incident.zip"
    done = await ops("incident", "export", f"{name}/demo", "--since", middle, "--until", middle, "-o", str(path))
    assert done.code == 0, done
    incident = read(path)
    assert [run.run_id for run in incident.runs] == [run_ids[1]]
    assert (await replay_runs(incident.runs)).failures == {}
    assert incident.verified[0].agreed is True

    later = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    done = await ops("incident", "export", f"{name}/demo", "--until", later, "-o", str(tmp_path / "none.zip"))
    assert done.code == 3, done
    assert not (tmp_path / "none.zip").exists()


async def test_sprite_that_is_gone_leaves_the_histories(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.run().wait()
    sprite.serve()
    loop = await supervise(sprite, target=sprite.target(repo_path=None))
    await loop.until_lifecycle("awaiting_approval")
    sprite.stop_service()
    sprite.repo.rename(sprite.folder / "moved")
    path = tmp_path / "incident.zip"
    done = await ops("incident", "export", f"{name}/demo", "-o", str(path))
    assert done.code == 0, done
    assert "Without the event log: sprite_service" in done.err
    incident = read(path)
    assert incident.log is None
    assert incident.verified[0].agreed is None
    (sprite.folder / "moved").rename(sprite.repo)


def test_writing_that_fails_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "incident.zip"
    path.write_text("the old one")
    incident = kept_incident()

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "dump_lines", fail)
    incident = kept_incident(EventLog(transport="local", read_at=datetime(2026, 11, 26, tzinfo=UTC)))
    with pytest.raises(OSError, match="No space"):
        write(incident, path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_secret_in_a_history_is_taken_out_of_its_payloads(tmp_path: Path) -> None:
    incident = kept_incident()
    start = incident.runs[0].events[0].workflow_execution_started_event_attributes.input.payloads[0]
    told = SupervisorStart.model_validate_json(start.data)
    start.data = told.model_copy(update={"task_queue": SECRET}).model_dump_json().encode()
    path = tmp_path / "incident.zip"
    write(without(incident, [SECRET]), path)
    everything = _everything_in(path)
    assert SECRET not in everything
    assert json.dumps(SECRET)[1:-1] not in everything
    assert read(path).runs[0].start.task_queue == "[hidden]"


def test_line_of_a_log_survives_the_archive_as_it_was(tmp_path: Path) -> None:
    lines = [
        LoggedLine(line=1, raw={"event": "loop_start", "timestamp": "x", "n": 1e300, "text": "\u2028 </script> é"}),
        LoggedLine(line=2, reason="not JSON", h="ab" * 32),
    ]
    log = EventLog(transport="local", read_at=datetime(2026, 11, 26, tzinfo=UTC), line_count=2, lines=lines)
    path = tmp_path / "incident.zip"
    write(kept_incident(log), path)
    read_back = read(path).log
    assert read_back is not None
    assert read_back.lines == lines
    assert read_back.chains == log.chains
    assert log.chains[-1] is not None


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_file_that_is_no_archive_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.zip"
    path.write_bytes(content)
    with pytest.raises(ArchiveInvalid, match=r"other\.zip is no archive"):
        read(path)


def _rewritten(path: Path, member: str, content: bytes | None) -> Path:
    """A copy of an archive with one member replaced, or left out."""
    changed = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            if name != member:
                target.writestr(name, source.read(name))
        if content is not None:
            target.writestr(member, content)
    return changed


_STARTED = {"eventId": "1", "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"}
_OTHERS_RUN = json.dumps({"events": [{**_STARTED, "workflowExecutionStartedEventAttributes": {}}]}).encode()


@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("manifest.json", None, "manifest.json"),
        ("manifest.json", b"[]", "manifest"),
        ("manifest.json", b"{}", "its manifest has format None"),
        ("manifest.json", b'{"format": 2}', "a newer version"),
        ("manifest.json", b'{"format": 1}', "Manifest madeAt: Field required"),
        ("manifest.json", b"[" * 100_000, "recursion"),
        ("verify.json", None, "verify.json"),
        ("verify.json", b"7", "valid array"),
        ("verify.json", b'"\xff"', "Invalid JSON"),
        ("histories/", None, "histories/"),
        ("histories/", b"[]", "not a history"),
        ("histories/", b'{"events": [{"eventType": 7, "eventTime": "never"}]}', "not a history"),
        ("histories/", b'{"events": []}', "does not begin with the start"),
        ("histories/", _OTHERS_RUN, "was not started as a supervisor"),
    ],
)
async def test_archive_that_is_broken_or_of_something_else_is_refused_in_one_line(
    tmp_path: Path, member: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / "incident.zip"
    write(kept_incident(), path)
    with zipfile.ZipFile(path) as file:
        member = next(name for name in file.namelist() if name.startswith(member))
    changed = _rewritten(path, member, content)
    with pytest.raises(ArchiveInvalid, match="is no archive of an incident") as raised:
        read(changed)
    assert said in str(raised.value)
    assert str(raised.value).isprintable()
    done = await Ops({})("incident", "replay", str(changed))
    assert (done.code, len(done.err.splitlines())) == (2, 1), done


def test_archive_whose_run_was_handed_what_is_no_state_is_refused(tmp_path: Path) -> None:
    incident = kept_incident()
    start = incident.runs[1].events[0].workflow_execution_started_event_attributes.input.payloads[0]
    told = SupervisorStart.model_validate_json(start.data)
    start.data = told.model_copy(update={"carried": {"cursor": "far"}}).model_dump_json().encode()
    path = tmp_path / "incident.zip"
    write(incident, path)
    with pytest.raises(ArchiveInvalid, match="was handed no state of a supervisor"):
        read(path)


def test_archive_that_unpacks_to_more_than_any_incident_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "incident.zip"
    write(kept_incident(), path)
    with zipfile.ZipFile(path) as file:
        size = sum(member.file_size for member in file.infolist())
    monkeypatch.setattr(archive, "MOST_BYTES", size)
    assert read(path).runs
    monkeypatch.setattr(archive, "MOST_BYTES", size - 1)
    with pytest.raises(ArchiveInvalid, match="it unpacks to"):
        read(path)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_archive_with_a_damaged_byte_or_cut_off_is_refused(tmp_path: Path, at: float) -> None:
    path = tmp_path / "incident.zip"
    write(kept_incident(), path)
    content = bytearray(path.read_bytes())
    where = int(len(content) * at)
    path.write_bytes(content[:where])
    with pytest.raises(ArchiveInvalid):
        read(path)
    content[where : where + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(ArchiveInvalid):
        read(path)

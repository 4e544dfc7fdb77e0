"""Kept histories: whole, once, and never in the way of supervision."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities.archive import ArchiveActivities
from activities.bundles import ServiceActivities
from activities.client import SpriteServiceClient
from contract.archives import ARCHIVES_FOLDER, ArchiveInput, archive_file, archive_folders
from contract.errors import IdentifierInvalid
from contract.identifiers import observe_task_queue
from incidents.archive import read
from incidents.collect import collect, kept_runs
from incidents.history import Run
from incidents.states import replay_runs
from tests.cli.ops import Ops
from tests.harness import Supervised, Supervisors
from tests.harness_sprite import WAITING, Sprite, activities_worker, until
from tests.incidents.scenes import LONG_STORY, chain_of_runs
from worker.workers import workflow_worker

if TYPE_CHECKING:
    from tests.harness import House


def _read(path: Path, workflow_id: str) -> Run:
    return Run.from_json(workflow_id, gzip.decompress(path.read_bytes()))


async def _until_kept(loop: Supervised, run_ids: list[str]) -> dict[str, Path]:
    await until(lambda: set(run_ids) <= set(kept_runs(loop.house.archives, loop.id)), "runs are kept")
    return kept_runs(loop.house.archives, loop.id)


def _forget(monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    """Have the server answer as after its retention: a development server takes minutes to delete a run."""
    fetch = WorkflowHandle.fetch_history

    async def gone(handle: WorkflowHandle[Any, Any], **options: Any) -> WorkflowHistory:
        if handle.run_id == run_id:
            raise RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")
        return await fetch(handle, **options)

    monkeypatch.setattr(WorkflowHandle, "fetch_history", gone)


async def test_run_that_is_over_is_kept_whole_by_its_successor(
    supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    loop = await chain_of_runs(supervise, new_sprite(name, LONG_STORY))
    over = (await loop.runs())[:-1]
    kept = await _until_kept(loop, over)
    for run_id, path in kept.items():
        run = _read(path, loop.id)
        assert run.ending == "continued_as_new"
        assert list(run.events) == list((await loop.history(run_id)).events)


async def test_run_past_retention_comes_from_the_archives_and_replays_without_a_server(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = await chain_of_runs(supervise, new_sprite(name, LONG_STORY))
    run_ids = await loop.runs()
    await _until_kept(loop, run_ids[:-1])
    _forget(monkeypatch, run_ids[0])
    here = Ops({**ops.environment, "OPS_MANAGER_DATA_FOLDER": str(loop.house.archives.parent)})
    path = tmp_path / "incident.zip"
    done = await here("incident", "export", f"{name}/demo", "-o", str(path))
    assert done.code == 0, done

    incident = read(path)
    assert [run.run_id for run in incident.runs][:4] == run_ids[:4]
    assert [entry.source for entry in incident.manifest.runs][:2] == ["archives", "server"]
    assert incident.verified[0].agreed is True
    offline = Ops({"TEMPORAL_ADDRESS": "127.0.0.1:1", "OPS_MANAGER_DATA_FOLDER": str(tmp_path / "nothing")})
    replayed = json.loads((await offline("incident", "replay", str(path), "-o", "json")).out)
    assert replayed["doNotReplay"] == {}
    assert replayed["status"]["lifecycle"] == "complete"

    nowhere = Ops({**ops.environment, "OPS_MANAGER_DATA_FOLDER": str(tmp_path / "nothing")})
    done = await nowhere("incident", "export", f"{name}/demo", "-o", str(tmp_path / "less.zip"))
    assert done.code == 0, done
    assert f"are the runs {run_ids[0]}" in done.err
    monkeypatch.undo()


async def test_released_loop_has_its_last_run_kept_up_to_its_release(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.run().wait()
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    await loop.handle.signal("APPROVE_PENDNG", {"by": "ana"})
    await loop.release()
    kept = await _until_kept(loop, [loop.first_run_id])
    run = _read(kept[loop.first_run_id], loop.id)
    whole = await loop.history()
    assert list(run.events) == list(whole.events[: len(run.events)])
    replayed = await replay_runs([run])
    assert replayed.failures == {}
    assert replayed.states[-1].report.lifecycle == "awaiting_approval"
    assert [record.intent for record in replayed.states[-1].report.intents] == ["APPROVE_PENDNG"]


async def test_release_keeps_what_could_not_be_kept_before(
    house: "House", supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    in_the_way = house.archives / name
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("a file where a folder has to be")
    loop = await chain_of_runs(supervise, new_sprite(name, LONG_STORY))
    assert kept_runs(house.archives, loop.id) == {}
    in_the_way.unlink()
    await loop.release()
    released = (await loop.handle.describe()).run_id
    kept = kept_runs(house.archives, loop.id)
    assert {*await loop.runs(), released} <= set(kept)
    endings = {run_id: _read(path, loop.id).ending for run_id, path in kept.items() if run_id != released}
    assert set(endings.values()) == {"continued_as_new"}


async def test_release_where_no_worker_keeps_histories_is_a_release_all_the_same(
    house: "House", new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.serve()
    queue = f"old-{name}"
    async with SpriteServiceClient(max_loops=1) as service, Supervisors(house, queue=queue) as supervise:
        observe = activities_worker(house.client, observe_task_queue(queue), [ServiceActivities(service).observe])
        async with workflow_worker(house.client, queue, max_loops=1), observe:
            loop = await supervise(sprite)
            await loop.until(lambda seen: seen.observed_at, "looked at")
            await loop.release()
            assert (await loop.handle.describe()).status is WorkflowExecutionStatus.CANCELED
            supervise.started.clear()  # it cannot be asked any more
    assert kept_runs(house.archives, loop.id) == {}


async def test_archives_that_cannot_be_written_hold_nothing_up_and_are_written_later(
    house: "House", supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, LONG_STORY)
    in_the_way = house.archives / name
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("a file where a folder has to be")
    loop = await chain_of_runs(supervise, sprite)
    assert kept_runs(house.archives, loop.id) == {}
    in_the_way.unlink()
    # The newest run tries again within seconds what its predecessors could not keep.
    await _until_kept(loop, (await loop.runs())[:-1])


async def test_history_is_kept_once_and_only_written_again_when_it_has_grown(
    house: "House", supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until(lambda seen: seen.observed_at, "looked at")
    environment = ActivityEnvironment(client=house.client)
    archive = ArchiveActivities(tmp_path / ARCHIVES_FOLDER).archive
    asked = ArchiveInput(workflow_id=loop.id, run_id=loop.first_run_id)

    first, second = await asyncio.gather(environment.run(archive, asked), environment.run(archive, asked))
    assert not (first.already and second.already)
    (path,) = kept_runs(tmp_path / ARCHIVES_FOLDER, loop.id).values()
    assert list(path.parent.iterdir()) == [path]
    await loop.handle.signal("APPROVE_PENDNG", {"by": "ana"})
    await loop.until(lambda seen: seen.intents, "told")
    again = await environment.run(archive, asked)
    assert again.event_count > first.event_count
    assert not again.complete
    assert len(_read(path, loop.id).events) == again.event_count


def _damaged(path: Path) -> None:
    """Bytes that decompression stumbles over, behind a header that is in order."""
    content = bytearray(path.read_bytes())
    content[12:40] = b"\xff" * 28
    path.write_bytes(content)


async def test_kept_history_that_was_damaged_is_kept_anew_and_until_then_counts_as_lost(
    house: "House", supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until(lambda seen: seen.observed_at, "looked at")
    folder = tmp_path / ARCHIVES_FOLDER
    keep = ArchiveActivities(folder).archive
    asked = ArchiveInput(workflow_id=loop.id, run_id=loop.first_run_id)
    await ActivityEnvironment(client=house.client).run(keep, asked)
    (path,) = kept_runs(folder, loop.id).values()
    _damaged(path)
    lost = await collect(None, loop.id, folder)
    assert (lost.runs, lost.missing) == ([], [loop.first_run_id])
    again = await ActivityEnvironment(client=house.client).run(keep, asked)
    assert not again.already
    assert [run.run_id for run in (await collect(None, loop.id, folder)).runs] == [loop.first_run_id]


async def test_history_that_the_server_has_forgotten_is_not_asked_for_again(house: "House", tmp_path: Path) -> None:
    asked = ArchiveInput(workflow_id="loop:nobody:demo", run_id="01a2031a-5ef0-78c6-935b-fabcd0b57b4c")
    environment = ActivityEnvironment(client=house.client)
    with pytest.raises(ApplicationError, match="not kept by the server any more") as raised:
        await environment.run(ArchiveActivities(tmp_path).archive, asked)
    assert raised.value.non_retryable
    assert (await collect(house.client, "loop:nobody:demo", tmp_path)).runs == []


@pytest.mark.parametrize("run_id", ["", "../../x", "a/b", "a\n", "x" * 65])
def test_name_that_leads_elsewhere_is_refused(run_id: str) -> None:
    with pytest.raises(IdentifierInvalid):
        archive_file(run_id)
    with pytest.raises(IdentifierInvalid):
        archive_folders("loop:..:demo")
    with pytest.raises(IdentifierInvalid):
        archive_folders("loop:acme:../../etc")

"""A log that is no longer the one that was read (D8), under supervision: noticed, named, read again as a whole."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.observation import Transport
from contract.status import Attention
from tests.harness import Supervisors
from tests.harness_sprite import WAITING, Sprite, edit_line
from tests.interop.independent import read_log
from tests.receiver import Receiver, assert_each_told_once, receiving


def _truncate(log: Path) -> None:
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:5]))


def _replace_by_a_longer_one(log: Path) -> None:
    events = [json.loads(line) for line in log.read_text().splitlines()]
    other = [{**event, "run_id": "2026-01-01T00:00:00Z"} for event in [*events, *events]]
    new = log.with_suffix(".new")
    new.write_text("".join(json.dumps(event) + "\n" for event in other))
    new.replace(log)


def _edit_in_the_middle(log: Path) -> None:
    edit_line(log, 7)


def _truncate_and_regrow(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:5]))
    with log.open("ab") as appending:
        appending.writelines([*lines[6:], lines[5], lines[5]])


CHANGES = [_truncate, _replace_by_a_longer_one, _edit_in_the_middle, _truncate_and_regrow]


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("change", CHANGES)
async def test_log_that_was_replaced_is_a_divergence_and_read_again_under_a_new_epoch(
    supervise: Supervisors, new_sprite: Any, tmp_path: Path, transport: Transport, change: Callable[[Path], None]
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    sprite.run().wait()
    sprite.serve()
    with receiving(tmp_path / "receiver") as receiver:
        async with sprite.local_worker(supervise.client):
            await _replaced(supervise, sprite, transport, change, receiver)
    assert_each_told_once(receiver)


async def _replaced(
    supervise: Supervisors, sprite: Sprite, transport: Transport, change: Callable[[Path], None], receiver: Receiver
) -> None:
    loop = await supervise(sprite, local_only=transport is Transport.LOCAL, webhook=receiver.webhook)
    before = await loop.until_lifecycle("awaiting_approval")
    assert before.cursor.epoch == 1
    change(sprite.loop_folder / "events.jsonl")
    on_disk = read_log(sprite.log())
    seen = await loop.until(
        lambda seen: (
            (seen.cursor.epoch, seen.cursor.event_line_offset, seen.cursor.at_head) == (2, on_disk.line_count, True)
        ),
        "the new log is read to its end",
    )
    assert seen.cursor.chain == on_disk.chain
    assert [divergence.type for divergence in seen.divergence] == ["events_rewritten"]
    assert seen.attention.code is Attention.DIVERGED
    (found,) = seen.divergence
    assert found.heads["epoch 1"].chain == before.cursor.chain
    assert found.heads["epoch 1"].line == before.cursor.event_line_offset
    # A human has to know: only an operator closes it.
    refused = await loop.direct("RESOLVE_DIVERGENCE", {"id": found.id, "accept": "local", "by": "ana"})
    assert "accept current" in refused.reason
    await loop.direct("RESOLVE_DIVERGENCE", {"id": found.id, "accept": "current", "by": "ana"})
    closed = await loop.status()
    assert (closed.divergence, closed.resolved_divergence[0].resolved_by) == ([], "ana")
    assert closed.attention.code is Attention.APPROVAL_WAITING or change is _truncate
    await receiver.until(lambda told: len(told.of("diverged")) == 2, "that it diverged, and that this is settled")
    await loop.until(lambda seen: seen.notices and seen.notices.pending == 0, "all is delivered")
    assert [taken.told[1] for taken in receiver.of("diverged")] == ["opened", "closed"]


@pytest.mark.parametrize("change", CHANGES)
async def test_log_that_changed_while_the_service_was_away_is_read_again_whole_and_agreed_upon(
    supervise: Supervisors, new_sprite: Any, change: Callable[[Path], None]
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    sprite.serve()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("awaiting_approval")
        await asyncio.to_thread(sprite.stop_service)
        await loop.until(lambda seen: seen.transport.state == "local", "local")
        change(sprite.loop_folder / "events.jsonl")
        await asyncio.to_thread(sprite.serve)
        on_disk = read_log(sprite.log())
        seen = await loop.until(
            lambda seen: (
                seen.transport.state == "sprite_service"
                and (seen.cursor.epoch, seen.cursor.event_line_offset) == (2, on_disk.line_count)
            ),
            "the new log is read to its end, and the service agrees with it",
            timeout_s=60.0,
        )
    assert seen.cursor.chain == on_disk.chain
    assert [divergence.type for divergence in seen.divergence] == ["events_rewritten"]


@pytest.mark.slow
async def test_log_that_was_swapped_while_nobody_could_see_is_read_again_through_the_service(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    sprite.serve()
    loop = await supervise(sprite)  # and nobody serves its local queue
    await loop.until_lifecycle("awaiting_approval")
    await asyncio.to_thread(sprite.stop_service)
    await loop.until(lambda seen: seen.transport.state != "sprite_service", "the service is missed")
    _edit_in_the_middle(sprite.loop_folder / "events.jsonl")
    await asyncio.to_thread(sprite.serve)
    on_disk = read_log(sprite.log())
    seen = await loop.until(
        lambda seen: (seen.transport.state, seen.cursor.chain) == ("sprite_service", on_disk.chain),
        "the new log is read through the service",
        timeout_s=90.0,
    )
    assert seen.cursor.epoch == 2
    assert [divergence.type for divergence in seen.divergence] == ["events_rewritten"]


@pytest.mark.slow
async def test_blind_loop_is_seen_again_as_soon_as_a_local_worker_is_there(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    loop = await supervise(sprite, local_only=True)
    blind = await loop.until(lambda seen: seen.transport.state == "blind", "blind", timeout_s=60.0)
    assert "no worker took the task within 30 s" in blind.transport.reason
    async with sprite.local_worker(supervise.client):
        seen = await loop.until_lifecycle("awaiting_approval", timeout_s=60.0)
    assert seen.transport.state == "local"
    assert [(change.from_state, change.to) for change in seen.transport.changes] == [
        ("local", "blind"),
        ("blind", "local"),
    ]


async def test_local_log_edited_behind_our_back_is_found_when_a_comparison_is_asked_for(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite, local_only=True)
        await loop.until_lifecycle("awaiting_approval")
        good = await loop.direct("RECONCILE", {"by": "ana"})
        assert good.sentence.startswith("Done: agreed: lines 1 to ")
        _edit_in_the_middle(sprite.loop_folder / "events.jsonl")
        await loop.direct("RECONCILE", {"by": "ana", "fromStart": True})
        on_disk = read_log(sprite.log())
        seen = await loop.until(lambda seen: seen.cursor.chain == on_disk.chain, "read again")
    assert seen.cursor.epoch == 2
    assert [divergence.type for divergence in seen.divergence] == ["events_rewritten"]

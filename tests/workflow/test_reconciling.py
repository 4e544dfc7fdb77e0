"""The service comes back: compared before it is believed; where it shows another log, an operator decides (D8, D9)."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from contract.divergence import DivergenceReport
from contract.status import Attention, IntentStage, StatusReport
from sprite.reader import SpriteReader
from tests.harness import Supervised, Supervisors
from tests.harness_sprite import CANDIDATE, CONTINUE, WAITING, Sprite, edit_line, loops, runs
from tests.interop.independent import read_log

WORKING = loops(
    demo=runs(
        [CONTINUE, {"outcome": "continue", "wait_for": "go"}, {**CANDIDATE, "wait_for": "end"}],
        max_iterations=9,
        stuck_threshold=0,
    )
)
ANA = {"by": "ana"}


def agrees(seen: StatusReport, log: bytes) -> bool:
    on_disk = read_log(log)
    return (seen.cursor.event_line_offset, seen.cursor.chain) == (on_disk.line_count, on_disk.chain)


@contextlib.asynccontextmanager
async def doctored(supervise: Supervisors, sprite: Sprite, change: Callable[[Path], None]) -> AsyncIterator[Supervised]:
    """A waiting loop whose service went away and came back with another log, while local shows what it always did."""
    await asyncio.to_thread(sprite.run().wait)
    sprite.serve()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("awaiting_approval")
        await asyncio.to_thread(sprite.stop_service)
        await loop.until(lambda seen: seen.transport.state == "local", "local")
        original, log = sprite.repo, sprite.loop_folder / "events.jsonl"
        good = log.read_bytes()
        copy = sprite.folder / "copy"
        shutil.copytree(original, copy)
        change(copy / log.relative_to(original))
        # The service reads the copy under the name of the original: nothing but the log betrays it.
        with serving_copy(sprite, copy):
            yield loop
        assert log.read_bytes() == good


@contextlib.contextmanager
def serving_copy(sprite: Sprite, copy: Path) -> Any:
    identity = SpriteReader(sprite.repo, state_dir=sprite.state_dir).sprite_id

    class Elsewhere(SpriteReader):
        """Reads the copy, and says it is the original."""

        def __init__(self) -> None:
            super().__init__(copy, state_dir=sprite.state_dir)
            self.sprite_id = identity

        def _source(self, loop_id: str) -> dict[str, str]:
            return {"repoPath": str(sprite.repo), "loopId": loop_id}

        def _snapshot(self, loop_id: str, **options: Any) -> dict[str, Any]:
            envelope = super()._snapshot(loop_id, **options)
            return {**envelope, "source": self._source(loop_id)}

    sprite.serve(Elsewhere)
    try:
        yield
    finally:
        sprite.stop_service()


def the_divergence(seen: StatusReport) -> DivergenceReport:
    (found,) = seen.divergence
    return found


async def diverged(loop: Supervised) -> DivergenceReport:
    seen = await loop.until(
        lambda seen: [found.type for found in seen.divergence] == ["transport_disagreement"], "a disagreement"
    )
    assert seen.transport.state == "local"
    assert seen.attention.code is Attention.DIVERGED
    assert seen.automation.frozen
    assert seen.cursor.epoch == 1
    return the_divergence(seen)


async def test_service_that_comes_back_is_reconciled_before_it_is_used_again_with_nothing_lost(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WORKING)
    sprite.serve()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        sprite.run()
        await loop.until(lambda seen: seen.iteration == 2, "the second iteration is seen")
        await asyncio.to_thread(sprite.stop_service)
        away = await loop.until(lambda seen: seen.transport.state == "local", "local")
        assert away.automation.frozen
        assert "not reconciled" in away.automation.reasons[0]
        (sprite.repo / "go").touch()
        await loop.until(lambda seen: seen.iteration == 3, "seen through local")
        await asyncio.to_thread(sprite.serve)
        back = await loop.until(lambda seen: seen.transport.state == "sprite_service", "back")
        assert not back.automation.frozen
        (sprite.repo / "end").touch()
        complete = await loop.until_lifecycle("complete")
    told = [(change.from_state, change.to) for change in complete.transport.changes]
    assert told == [("sprite_service", "local"), ("local", "reconciling"), ("reconciling", "sprite_service")]
    assert "does not answer" in complete.transport.changes[0].reason
    assert complete.transport.changes[0].evidence
    assert complete.transport.stable_line == complete.cursor.event_line_offset
    assert agrees(complete, sprite.log())
    assert (complete.cursor.epoch, complete.divergence) == (1, [])


async def test_automated_cancel_is_refused_while_frozen_and_executed_once_afterwards(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WORKING)
    sprite.serve()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        sprite.run()
        await loop.until(lambda seen: seen.iteration == 2, "works")
        await asyncio.to_thread(sprite.stop_service)
        await loop.until(lambda seen: seen.transport.state == "local", "local")
        await loop.send("CANCEL_LOOP", {"by": "robot", "automated": True})
        refused = await loop.until_intent(IntentStage.REJECTED)
        assert refused.automated
        assert "automated intents are frozen: not reconciled" in refused.reason
        await asyncio.to_thread(sprite.serve)
        await loop.until(lambda seen: seen.transport.state == "sprite_service", "back")
        await loop.send("CANCEL_LOOP", {"by": "robot", "automated": True})
        await loop.until_intent(IntentStage.CONFIRMED)
        assert len(sprite.commands("cancel")) == 1


async def test_doctored_log_is_a_disagreement_with_its_first_line_and_accepting_local_keeps_what_was_ingested(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WAITING)
    async with doctored(supervise, sprite, lambda log: edit_line(log, 7)) as loop:
        found = await diverged(loop)
        assert found.id == "d1"
        assert found.first_differing_line == 7
        assert {"ingested", "sprite_service"} == set(found.heads)
        assert found.heads["ingested"].chain != found.heads["sprite_service"].chain
        assert found.next_command == "ops-manager resolve acme/demo d1 --accept local --by YOUR-NAME"
        before = await loop.status()
        done = await loop.direct("RESOLVE_DIVERGENCE", {"id": "d1", "accept": "local", **ANA, "note": "ours"})
        assert done.stage is IntentStage.CONFIRMED
        again = await loop.direct("RESOLVE_DIVERGENCE", {"id": "d1", "accept": "local", **ANA})
        assert again.stage is IntentStage.REJECTED
        assert "was resolved at" in again.reason
        seen = await loop.status()
    assert (seen.transport.state, seen.transport.mode, seen.transport.pinned_by) == ("local", "local", "ana")
    assert (seen.divergence, seen.cursor) == ([], before.cursor)
    (closed,) = seen.resolved_divergence
    assert (closed.id, closed.resolution, closed.resolved_by, closed.note) == ("d1", "local", "ana", "ours")
    assert agrees(seen, sprite.log())


async def test_accepting_the_service_reads_its_log_whole_under_a_new_epoch(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WAITING)
    async with doctored(supervise, sprite, lambda log: edit_line(log, 1)) as loop:
        found = await diverged(loop)
        assert found.first_differing_line == 1
        await loop.send("RESOLVE_DIVERGENCE", {"id": found.id, "accept": "sprite_service", **ANA})
        seen = await loop.until(
            lambda seen: (seen.transport.state, seen.cursor.epoch, seen.cursor.at_head) == ("sprite_service", 2, True),
            "the service's log is read",
        )
        log = (sprite.folder / "copy" / ".superloop" / "loops" / "demo" / "events.jsonl").read_bytes()
        assert agrees(seen, log)
        assert seen.divergence == []
        assert not seen.automation.frozen


async def test_accepting_what_is_believed_closes_it_and_a_comparison_that_agrees_leads_back(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WAITING)
    lines = 5

    def shorter(log: Path) -> None:
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:lines]))

    async with doctored(supervise, sprite, shorter) as loop:
        found = await diverged(loop)
        assert found.first_differing_line == lines + 1
        await loop.direct("RESOLVE_DIVERGENCE", {"id": found.id, "accept": "current", **ANA})
        # The same difference is known: it is told when asked for, and is no new alarm.
        told = await loop.direct("RECONCILE", ANA)
        assert told.comparison is not None
        assert (told.comparison.agreement, told.comparison.first_differing_line) == ("different", lines + 1)
        assert (await loop.status()).divergence == []
        await asyncio.to_thread(sprite.stop_service)
        nothing = await loop.direct("RECONCILE", ANA)
        assert (nothing.stage, nothing.sentence[:13]) == (IntentStage.REJECTED, "Nothing done:")
        await asyncio.to_thread(sprite.serve)
        good = await loop.direct("RECONCILE", ANA)
        assert good.sentence.startswith("Done: agreed: lines 1 to ")
        seen = await loop.status()
    assert seen.transport.state == "sprite_service"
    assert not seen.automation.frozen


async def test_pinned_loop_stays_where_it_is_put(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    await asyncio.to_thread(sprite.run().wait)
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("awaiting_approval")
        pinned = await loop.direct("SET_TRANSPORT", {"mode": "local", **ANA})
        assert pinned.sentence == "Done: ana pinned the loop to local, and nothing else is used"
        await loop.until(lambda seen: (seen.transport.state, seen.transport.mode) == ("local", "local"), "local")
        told = await loop.direct("RECONCILE", {**ANA, "fromStart": True})
        assert told.sentence.startswith("Done: agreed: lines 1 to ")
        assert (await loop.status()).transport.state == "local"
        await loop.direct("SET_TRANSPORT", {"mode": "sprite_service", **ANA})
        await loop.until(lambda seen: seen.transport.state == "sprite_service", "through the service")
        await asyncio.to_thread(sprite.stop_service)
        blind = await loop.until(lambda seen: seen.transport.state == "blind", "blind, not local")
        assert "pinned to the sprite service by ana" in blind.transport.reason
        assert (blind.attention.code, blind.lifecycle) == (Attention.BLIND, "awaiting_approval")
        await asyncio.to_thread(sprite.serve)
        await loop.until(lambda seen: seen.transport.state == "sprite_service", "sees again")
        await asyncio.to_thread(sprite.stop_service)
        await loop.until(lambda seen: seen.transport.state == "blind", "blind again")
        await loop.direct("SET_TRANSPORT", {"mode": "auto", **ANA})
        seen = await loop.until(lambda seen: seen.transport.state == "local", "falls back")
    assert [change.by for change in seen.transport.changes if change.by] == ["ana", "ana", "ana"]


async def test_wrong_directives_are_recorded_rejections_and_nothing_changes(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    await asyncio.to_thread(sprite.run().wait)
    loop = await supervise(sprite)
    before = await loop.until_lifecycle("awaiting_approval")
    wrong: dict[str, tuple[str, object, str]] = {
        "mode": ("SET_TRANSPORT", {"mode": "carrier pigeon", **ANA}, "mode"),
        "nobody": ("SET_TRANSPORT", {"mode": "auto"}, "by is required"),
        "typo": ("SET_TRANSPORT", {"mode": "auto", "bye": "ana", **ANA}, "did you mean 'by'"),
        "string": ("RECONCILE", "ana", "not a string"),
        "unknown": ("RESOLVE_DIVERGENCE", {"id": "d9", "accept": "current", **ANA}, "no divergence d9; open: none"),
        "accept": ("RESOLVE_DIVERGENCE", {"id": "d1", "accept": "mine", **ANA}, "accept"),
    }
    for name, (signal, message, told) in wrong.items():
        index = await loop.send(signal, message)
        record = await loop.until_intent(IntentStage.REJECTED, index=index)
        assert told in record.reason, name
    sent = await loop.send_by_cli("RECONCILE")
    assert sent.returncode == 0
    await loop.until(lambda seen: len(seen.intents) == len(wrong) + 1, "no argument is recorded too")
    seen = await loop.status()
    assert (seen.transport, seen.cursor) == (before.transport, before.cursor)


async def test_another_sprite_at_the_services_address_is_told_and_never_believed(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite, other = new_sprite("acme", WAITING), new_sprite("other", WAITING)
    sprite.serve()
    await asyncio.to_thread(sprite.run().wait)
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("awaiting_approval")
        await asyncio.to_thread(sprite.stop_service)
        before = await loop.until(lambda seen: seen.transport.state == "local", "local")
        sprite.serve(lambda: SpriteReader(other.repo, state_dir=other.state_dir))
        found = await diverged(loop)
        assert "but" in found.detail
        assert (found.heads, found.first_differing_line) == ({}, None)
        refused = await loop.direct("RESOLVE_DIVERGENCE", {"id": found.id, "accept": "sprite_service", **ANA})
        assert (refused.stage, "local or current" in refused.reason) == (IntentStage.REJECTED, True)
        await asyncio.to_thread(sprite.stop_service)
        await asyncio.to_thread(sprite.serve)
        await loop.direct("RECONCILE", ANA)
        seen = await loop.status()
    assert (seen.transport.state, seen.divergence) == ("sprite_service", [])
    assert [closed.resolution for closed in seen.resolved_divergence] == ["gone"]
    assert (seen.cursor.epoch, seen.cursor.chain) == (1, before.cursor.chain)

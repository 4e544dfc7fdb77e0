"""`reconcile` and `chains`: our own service, one of the base contract, and the files, held to what was ingested."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.bundles import LocalActivities, ServiceActivities
from activities.client import SpriteServiceClient
from contract.observation import (
    ChainAt,
    Contact,
    CursorPosition,
    Observation,
    Target,
    Transport,
)
from contract.reconciliation import Agreement, ChainsInput, ChainsResult, ReconcileInput, ReconcileResult
from tests.activities.support import append, ask, chain_of, event_line, events_file, target
from tests.control.support import fake_runtime
from tests.harness_sprite import edit_line
from tests.http.support import running
from tests.peers import BasePeer, Fault, base_peer

LINES = 33


class Side:
    """One way to the log of `repo`."""

    def __init__(self, repo: Path, bundle: ServiceActivities | LocalActivities, where: Target, peer: BasePeer | None):
        self.repo, self.bundle, self.target, self.peer = repo, bundle, where, peer
        self.transport = Transport.LOCAL if isinstance(bundle, LocalActivities) else Transport.SPRITE_SERVICE

    async def reconcile(self, **changes: Any) -> ReconcileResult:
        given = {"target": self.target, "transport": self.transport, "cursor": self.at(LINES), **changes}
        asked = ReconcileInput(**given)
        result: ReconcileResult = await asyncio.wait_for(ActivityEnvironment().run(self.bundle.reconcile, asked), 30)
        return result

    async def chains(self, lines: list[int], start: CursorPosition | None = None) -> ChainsResult:
        asked = ChainsInput(target=self.target, transport=self.transport, start=start or CursorPosition(), lines=lines)
        result: ChainsResult = await asyncio.wait_for(ActivityEnvironment().run(self.bundle.chains, asked), 30)
        return result

    async def observe(self, **changes: Any) -> Observation:
        asked = ask(self.target, self.transport, **changes)
        seen: Observation = await asyncio.wait_for(ActivityEnvironment().run(self.bundle.observe, asked), 30)
        return seen

    def chain(self, line: int) -> str:
        return chain_of(b"".join(events_file(self.repo).read_bytes().splitlines(keepends=True)[:line]))

    def at(self, line: int) -> CursorPosition:
        return CursorPosition(line=line, chain=self.chain(line))

    def edit(self, line: int) -> None:
        edit_line(events_file(self.repo), line)


@pytest.fixture(params=["ours", "base", "local"])
async def side(
    request: pytest.FixtureRequest, repo: Path, client: SpriteServiceClient, tmp_path: Path
) -> AsyncIterator[Side]:
    if request.param == "base":
        with base_peer(repo) as peer:
            yield Side(repo, ServiceActivities(client), target(peer), peer)
        return
    async with running(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state") as service:
        if request.param == "local":
            yield Side(repo, LocalActivities(service.reader, service.controller, "acme"), target(), None)
        else:
            where = target(service_url=f"http://{service.host}:{service.port}")
            yield Side(repo, ServiceActivities(client), where, None)


@pytest.mark.parametrize("start", [0, 5, 32])
async def test_log_that_was_ingested_agrees_also_when_it_has_moved_on(side: Side, start: int) -> None:
    cursor, begin = side.at(LINES), side.at(start) if start else CursorPosition()
    for moved_on in (False, True):
        if moved_on:
            append(side.repo, event_line("loop_start"), event_line("iteration_start"))
        found = await side.reconcile(cursor=cursor, start=begin)
        assert (found.agreement, found.from_line, found.to_line) == (Agreement.AGREED, start, LINES)
        assert found.chain == cursor.chain


async def test_edited_line_differs_between_the_checkpoints_around_it(side: Side) -> None:
    cursor = side.at(LINES)
    known = [ChainAt(line=line, chain=side.chain(line)) for line in (4, 10, 20, 30)]
    side.edit(15)
    found = await side.reconcile(cursor=cursor, checkpoints=known)
    assert (found.agreement, found.same_up_to, found.differs_at) == (Agreement.DIFFERENT, 10, 20)


async def test_log_without_the_last_lines_is_shorter(side: Side) -> None:
    cursor = side.at(LINES)
    log = events_file(side.repo)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:20]))
    for start in (CursorPosition(), CursorPosition(line=25, chain="0" * 64)):
        found = await side.reconcile(cursor=cursor, start=start)
        assert found.agreement is Agreement.DIFFERENT
        assert found.line_count == 20


async def test_log_of_which_nothing_was_ingested_agrees_as_soon_as_somebody_shows_it(side: Side) -> None:
    found = await side.reconcile(cursor=CursorPosition())
    assert (found.agreement, found.to_line, found.chain) == (Agreement.AGREED, 0, None)
    gone = await side.reconcile(target=side.target.model_copy(update={"loop_id": "other"}), cursor=CursorPosition())
    assert (gone.agreement, gone.contact) == (Agreement.CONDITION, Contact.LOOP_NOT_FOUND)


async def test_loop_that_is_not_there_is_a_condition(side: Side) -> None:
    where = side.target.model_copy(update={"loop_id": "other"})
    found = await side.reconcile(target=where)
    assert (found.agreement, found.contact) == (Agreement.CONDITION, Contact.LOOP_NOT_FOUND)


async def test_chains_are_those_of_the_log_as_far_as_it_goes(side: Side) -> None:
    for start in (CursorPosition(), side.at(3)):
        found = await side.chains([4, 17, 33, 99], start)
        assert found.complete
        assert {one.line: one.chain for one in found.chains} == {line: side.chain(line) for line in (4, 17, 33)}


async def test_edit_that_keeps_the_size_is_noticed_while_nothing_happens(side: Side) -> None:
    first = await side.observe()
    asked = {"cursor": first.cursor, "known": first.digest, "observe_max_s": 1.0}
    still = await side.observe(**asked)
    assert still.reset is None
    assert still.image is not None
    side.edit(15)
    # The hash is made anew at once, as it is once an hour; one that cannot be asked shows it by its snapshots.
    seen = await side.observe(**{**asked, "observe_max_s": 20.0, "image": still.image, "scrub_after_s": 0.0})
    assert seen.reset is not None
    assert seen.reset.reason == "events_rewritten"


async def test_log_is_hashed_again_when_it_is_due_and_only_then(side: Side) -> None:
    first = await side.observe(scrub_after_s=3600.0)
    assert not first.scrubbed
    asked = {"cursor": first.cursor, "known": first.digest, "observe_max_s": 0.5}
    assert (await side.observe(**asked, scrub_after_s=0.0)).scrubbed
    assert not (await side.observe(**asked, scrub_after_s=None)).scrubbed


async def test_service_that_does_not_answer_is_unreachable_and_no_disagreement(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    side = Side(repo, ServiceActivities(client), target(peer), peer)
    peer.fault = Fault.DROP
    found = await side.reconcile(failure_limit=2)
    assert found.agreement is Agreement.UNREACHABLE
    lost = await side.chains([4])
    assert not lost.complete


async def test_bad_line_that_a_base_service_leaves_out_proves_nothing_and_contradicts_nothing(
    client: SpriteServiceClient, repo: Path
) -> None:
    append(repo, "garbage\n", event_line("loop_start"))
    with base_peer(repo, skips_bad_lines=True) as peer:
        side = Side(repo, ServiceActivities(client), target(peer), peer)
        whole = await side.observe()
        assert whole.unverifiable_from == LINES + 1
        cursor = whole.cursor.model_copy(update={"chain": "ab" * 32})
        found = await side.reconcile(cursor=cursor)
        assert found.agreement is Agreement.UNVERIFIABLE
        log = events_file(repo)
        log.write_bytes(log.read_bytes().replace(b'"run_id":"r"', b'"run_id":"q"'))
        assert (await side.reconcile(cursor=cursor)).agreement is Agreement.DIFFERENT

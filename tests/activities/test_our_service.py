"""`observe` and `probe` against this project's own service, with everything it offers beyond the base contract."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.bundles import LocalActivities, ServiceActivities
from activities.client import SpriteServiceClient
from activities.failures import LogMoved
from contract.observation import (
    Contact,
    CursorPosition,
    Observation,
    ObserveInput,
    ProbeInput,
    ProbeResult,
    Target,
    Transport,
)
from sprite.processes import LoopRun, ScanResult
from tests.activities.support import append, ask, chain_of, event_line, events_file, lay_end, target, until
from tests.control.support import fake_runtime
from tests.http.support import Service, running
from tests.peers import BasePeer, Fault, base_peer
from tests.recordings.unpack import SCENARIOS


@pytest.fixture
async def service(repo: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state") as one:
        yield one


def behind(service: Service, **changes: Any) -> Target:
    return target(service_url=f"http://{service.host}:{service.port}", **changes)


async def watch(client: SpriteServiceClient, asked: ObserveInput) -> Observation:
    return await asyncio.wait_for(ActivityEnvironment().run(ServiceActivities(client).observe, asked), timeout=30)


async def test_it_shows_who_it_is(client: SpriteServiceClient, service: Service) -> None:
    seen = await watch(client, ask(behind(service)))
    assert seen.sprite_id == service.reader.sprite_id
    assert seen.snapshot is not None
    assert seen.snapshot.process.state == "dead"


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_both_transports_tell_the_same_of_every_recorded_end(
    scenario: str, client: SpriteServiceClient, tmp_path: Path
) -> None:
    repo = lay_end(scenario, tmp_path / "recorded")
    async with running(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state") as service:
        through = await watch(client, ask(behind(service)))
        bundle = LocalActivities(service.reader, service.controller, "acme")
        beside = await ActivityEnvironment().run(bundle.observe, ask(behind(service), Transport.LOCAL))
    different = {"transport", "contact_at", "trace_id", "snapshot"}
    assert through.model_dump(exclude=different) == beside.model_dump(exclude=different)
    assert through.cursor.chain == chain_of(events_file(repo).read_bytes())
    assert through.digest == beside.digest


async def test_another_sprite_with_the_same_path_and_loop_is_refused(
    client: SpriteServiceClient, service: Service
) -> None:
    seen = await watch(client, ask(behind(service, sprite_id="another-sprite", repo_path=str(service.reader.repo))))
    assert seen.contact is Contact.WRONG_SPRITE
    assert (seen.events, seen.snapshot) == ([], None)


async def test_a_rewritten_log_of_any_length_is_found_at_the_next_poll(
    client: SpriteServiceClient, service: Service
) -> None:
    repo = service.reader.repo
    first = await watch(client, ask(behind(service)))
    count = first.cursor.line
    events_file(repo).write_text("".join(event_line(f"other_{n}", n) for n in range(count + 3)))
    seen = await watch(client, ask(behind(service), cursor=first.cursor, known=first.digest))
    assert seen.reset is not None
    assert (seen.reset.reason, seen.reset.at_line, seen.reset.line_count) == ("events_rewritten", count, count + 3)
    assert seen.reset.chain == chain_of(events_file(repo).read_bytes())


async def test_a_bad_line_is_shown_and_the_chain_goes_on(client: SpriteServiceClient, service: Service) -> None:
    append(service.reader.repo, "{ torn\n", event_line("after"))
    seen = await watch(client, ask(behind(service)))
    assert [bad.line for bad in seen.quarantined] == [seen.cursor.line - 1]
    assert seen.unverifiable_from is None
    assert seen.cursor.chain is not None
    onwards = await watch(client, ask(behind(service), cursor=seen.cursor, known=seen.digest, observe_max_s=0.2))
    assert onwards.reset is None


@pytest.fixture
def alive(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service, whose scan finds a run of the loop."""
    run = LoopRun(pid=1, start_time="1", loop_id="demo")
    monkeypatch.setattr(service.reader, "_scan_processes", lambda _: ScanResult(runs=(run,), complete=True))
    return service


async def test_while_a_run_lives_news_is_told_at_once_by_a_long_poll(
    client: SpriteServiceClient, alive: Service
) -> None:
    first = await watch(client, ask(behind(alive)))
    patient = ask(
        behind(alive), cursor=first.cursor, known=first.digest, long_poll_wait_s=20, running_poll_interval_s=20,
        idle_poll_interval_s=20, observe_max_s=25,
    )  # fmt: skip
    waiting = asyncio.create_task(watch(client, patient))
    await asyncio.sleep(1)
    append(alive.reader.repo, event_line("iteration_start"))
    began = time.monotonic()
    seen = await waiting
    assert time.monotonic() - began < 15
    assert [event.name for event in seen.events] == ["iteration_start"]


async def test_while_a_run_lives_a_changed_snapshot_is_told_at_once_too(
    client: SpriteServiceClient, alive: Service
) -> None:
    first = await watch(client, ask(behind(alive)))
    patient = ask(
        behind(alive), cursor=first.cursor, known=first.digest, long_poll_wait_s=20, running_poll_interval_s=20,
        idle_poll_interval_s=20, observe_max_s=25,
    )  # fmt: skip
    waiting = asyncio.create_task(watch(client, patient))
    await asyncio.sleep(1)
    (alive.reader.repo / ".superloop" / "state.json").unlink()
    began = time.monotonic()
    seen = await waiting
    assert time.monotonic() - began < 15
    assert seen.digest != first.digest


async def test_a_heartbeat_of_the_loop_is_no_news_and_its_silence_is(
    client: SpriteServiceClient, alive: Service
) -> None:
    loop = alive.reader.repo / ".superloop" / "loops" / "demo"
    state = alive.reader.repo / ".superloop" / "state.json"
    (loop / "run-summary.json").unlink()
    state.write_text('{"active": true, "loop_index": 0, "iteration": 1, "current_loop_id": "demo"}')

    def beat() -> None:
        (loop / "heartbeat.v1.json").write_text(f'{{"timestamp": "{_utc()}"}}')

    beat()
    first = await watch(client, ask(behind(alive), stale_after_s=4))
    assert first.snapshot is not None
    assert (first.snapshot.status, first.snapshot.freshness) == ("running", "fresh")
    patient = ask(
        behind(alive), cursor=first.cursor, known=first.digest, long_poll_wait_s=20, stale_after_s=4, observe_max_s=25
    )
    waiting = asyncio.create_task(watch(client, patient))
    for _ in range(3):
        await asyncio.sleep(1)
        beat()
    assert not waiting.done()
    seen = await waiting
    assert seen.snapshot is not None
    assert seen.snapshot.freshness == "stale"


def _utc() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


async def test_pages_of_a_long_backlog_arrive_in_order_and_complete(
    client: SpriteServiceClient, service: Service
) -> None:
    append(service.reader.repo, *(event_line(f"e{n}", n, data={"reason": "x" * 50}) for n in range(3_000)))
    cursor, known, lines = CursorPosition(), None, 0
    while True:
        seen = await watch(client, ask(behind(service), cursor=cursor, known=known))
        lines += len(seen.events)
        assert len(seen.model_dump_json()) < 420 * 1024
        cursor, known = seen.cursor, seen.digest
        if seen.at_head:
            break
    assert (lines, cursor.line) == (3_033, 3_033)
    assert cursor.chain == chain_of(events_file(service.reader.repo).read_bytes())


async def test_a_cursor_ahead_is_an_error_with_the_head(client: SpriteServiceClient, service: Service) -> None:
    with pytest.raises(LogMoved) as moved:
        await client.events(behind(service), CursorPosition(line=99), max_events=10)
    assert (moved.value.reset.reason, moved.value.reset.line_count) == ("cursor_ahead", 33)


# The probe.


async def probe(client: SpriteServiceClient, where: Target, line: int = 33, **changes: Any) -> ProbeResult:
    asked = ProbeInput(
        **{"target": where, "cursor": CursorPosition(line=line), "interval_s": 0.1, "max_interval_s": 0.3, **changes}
    )
    return await ActivityEnvironment().run(ServiceActivities(client).probe, asked)


async def test_a_probe_ends_after_two_good_tries(client: SpriteServiceClient, service: Service) -> None:
    result = await probe(client, behind(service))
    assert (result.recovered, result.attempts) == (True, 2)


async def test_a_log_that_moved_on_is_for_the_observer_to_tell(client: SpriteServiceClient, service: Service) -> None:
    assert (await probe(client, behind(service), line=99)).recovered


async def test_a_service_whose_loop_has_no_events_yet_is_alive(client: SpriteServiceClient, tmp_path: Path) -> None:
    (tmp_path / "fresh" / ".superloop" / "loops" / "demo").mkdir(parents=True)
    with base_peer(tmp_path / "fresh") as peer:
        result = await probe(client, target(peer), line=0, probe_max_s=5.0)
    assert (result.recovered, result.attempts) == (True, 2)


async def test_a_service_that_refuses_the_token_is_alive(client: SpriteServiceClient, peer: BasePeer) -> None:
    peer.token = "another"
    assert (await probe(client, target(peer), probe_max_s=5.0)).recovered


async def test_a_token_that_cannot_be_read_here_says_nothing_about_the_service(
    client: SpriteServiceClient, peer: BasePeer
) -> None:
    result = await probe(client, target(peer, token="env:NOWHERE_SET"), probe_max_s=0.5)
    assert not result.recovered
    assert "NOWHERE_SET" in result.detail
    assert peer.requests == []


@pytest.mark.parametrize("fault", [Fault.BAD_GATEWAY_PAGE, Fault.GARBAGE, Fault.WRONG_SCHEMA, Fault.CUT])
async def test_a_probe_is_not_content_with_less(fault: Fault, client: SpriteServiceClient, peer: BasePeer) -> None:
    peer.fault, peer.faulty = fault, lambda seen: seen.endpoint == "/ops/events"
    result = await probe(client, target(peer), probe_max_s=1.0)
    assert not result.recovered
    assert result.detail


async def test_a_probe_counts_only_tries_in_a_row(client: SpriteServiceClient, peer: BasePeer) -> None:
    served = 0

    def every_other(_: Any) -> bool:
        nonlocal served
        served += 1
        return served % 3 == 0  # snapshot, events, snapshot fails, ...

    peer.fault, peer.faulty = Fault.GARBAGE, every_other
    result = await probe(client, target(peer), probe_max_s=2.0)
    assert not result.recovered
    assert result.attempts > 3


async def test_a_probe_of_another_sprite_never_recovers(client: SpriteServiceClient, service: Service) -> None:
    result = await probe(client, behind(service, sprite_id="another-sprite"), probe_max_s=0.5)
    assert not result.recovered
    assert "another-sprite" in result.detail


async def test_a_probe_ends_at_the_workers_shutdown(client: SpriteServiceClient, peer: BasePeer) -> None:
    peer.fault = Fault.HANG
    environment = ActivityEnvironment()
    asked = ProbeInput(target=target(peer), cursor=CursorPosition())
    waiting = asyncio.create_task(environment.run(ServiceActivities(client).probe, asked))
    await until(lambda: peer.requests)
    environment.worker_shutdown()
    assert not (await waiting).recovered


async def test_the_local_probe_is_one_look(service: Service) -> None:
    bundle = LocalActivities(service.reader, service.controller, "acme")
    asked = ProbeInput(target=target(), cursor=CursorPosition())
    assert (await ActivityEnvironment().run(bundle.probe, asked)).recovered
    elsewhere = ProbeInput(target=target(sprite="other"), cursor=CursorPosition())
    assert not (await ActivityEnvironment().run(bundle.probe, elsewhere)).recovered


async def test_the_local_worker_of_another_name_shows_nothing(service: Service) -> None:
    bundle = LocalActivities(service.reader, service.controller, "acme")
    seen = await ActivityEnvironment().run(bundle.observe, ask(target(sprite="other"), Transport.LOCAL))
    assert (seen.contact, seen.events, seen.snapshot) == (Contact.WRONG_SPRITE, [], None)
    assert "'other'" in seen.detail


async def test_a_repo_named_by_a_link_is_the_same_repo_locally(service: Service, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(service.reader.repo)
    bundle = LocalActivities(service.reader, service.controller, "acme")
    seen = await ActivityEnvironment().run(bundle.observe, ask(target(repo_path=str(link)), Transport.LOCAL))
    assert seen.contact is Contact.OK

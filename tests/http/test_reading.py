"""Snapshots and events over HTTP: tags, pages, long polls, and clients that know only the base contract (D8, D20)."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest

from sprite.http import ServiceSettings
from sprite.http.endpoints import Endpoints
from sprite.http.metrics import Metrics
from sprite.reader import SpriteReader
from tests.control.support import append, eventually, fake_runtime, loop_repo, write_state
from tests.http.support import Service, running

SNAPSHOT, EVENTS = "/ops/snapshot?loopId=demo", "/ops/events?loopId=demo"
ROLE = {"event": "role_start", "run_id": "R1", "iteration": 1, "role": "planner"}


def events_of(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [event["cursor"]["eventLineOffset"] for event in response.json()["events"]]


async def test_snapshot_that_did_not_change_is_not_sent_again(service: Service, repo: Path) -> None:
    first = await service.get(SNAPSHOT)
    etag = first.headers["etag"]

    for header in (etag, f'"x", {etag}', etag.removeprefix("W/"), "*"):
        again = await service.get(SNAPSHOT, **{"If-None-Match": header})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)

    append(repo, ROLE)
    changed = await service.get(SNAPSHOT, **{"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_tag_of_the_page_is_that_of_the_snapshot(service: Service) -> None:
    etag = (await service.get(SNAPSHOT)).headers["etag"]

    assert (await service.get(EVENTS)).json()["snapshotEtag"] == etag.removeprefix("W/").strip('"')


async def test_head_request_is_answered_without_a_body(service: Service) -> None:
    response = await service.client.head(SNAPSHOT, headers={"X-Ops-Token": "test-token"})

    assert (response.status_code, response.content) == (200, b"")


async def test_long_poll_without_news_returns_an_empty_page_after_its_time(service: Service) -> None:
    started = time.monotonic()

    response = await service.get(f"{EVENTS}&cursor=1&waitSeconds=0.5")

    assert events_of(response) == []
    assert 0.4 < time.monotonic() - started < 15


async def test_long_poll_returns_as_soon_as_an_event_is_written(service: Service, repo: Path) -> None:
    started = time.monotonic()
    waiting = asyncio.create_task(service.get(f"{EVENTS}&cursor=1&waitSeconds=20"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    append(repo, ROLE)

    assert events_of(await waiting) == [2]
    assert time.monotonic() - started < 15


async def test_long_poll_behind_the_head_returns_at_once(service: Service) -> None:
    started = time.monotonic()

    assert events_of(await service.get(f"{EVENTS}&cursor=0&waitSeconds=20")) == [1]
    assert time.monotonic() - started < 15


async def test_long_poll_with_a_tag_wakes_for_a_changed_snapshot(service: Service, repo: Path) -> None:
    etag = (await service.get(SNAPSHOT)).headers["etag"]
    query = httpx.QueryParams({"loopId": "demo", "cursor": 1, "waitSeconds": 20, "snapshotEtag": etag})
    waiting = asyncio.create_task(service.get(f"/ops/events?{query}"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    write_state(repo, active=True)

    page = (await asyncio.wait_for(waiting, 15)).json()

    assert page["events"] == []
    assert page["snapshotEtag"] != etag.removeprefix("W/").strip('"')


async def test_long_poll_with_an_outdated_tag_returns_at_once(service: Service) -> None:
    started = time.monotonic()

    assert events_of(await service.get(f"{EVENTS}&cursor=1&waitSeconds=20&snapshotEtag=old")) == []
    assert time.monotonic() - started < 15


async def test_wait_is_capped(repo: Path, runtime: Path, tmp_path: Path) -> None:
    async with running(repo, runtime, tmp_path / "state", settings=ServiceSettings(max_wait_s=0.3)) as service:
        started = time.monotonic()

        await service.get(f"{EVENTS}&cursor=1&waitSeconds=86400")

        assert time.monotonic() - started < 15


async def test_long_poll_of_a_client_that_left_does_not_wait_on(service: Service) -> None:
    raw = await service.connect()
    await raw.send(f"GET {EVENTS}&cursor=1&waitSeconds=20 HTTP/1.1\r\nHost: x\r\nX-Ops-Token: test-token\r\n\r\n")
    tasks = service.server.server_state.tasks
    await eventually(lambda: tasks, "the request has arrived", timeout_s=15)
    await raw.close()

    await eventually(lambda: not tasks, "nobody waits any more", timeout_s=15)


async def test_long_polls_end_at_once_when_the_service_stops(repo: Path, runtime: Path, tmp_path: Path) -> None:
    async with running(repo, runtime, tmp_path / "state") as service:
        waiting = [asyncio.create_task(service.get(f"{EVENTS}&cursor=1&waitSeconds=25")) for _ in range(20)]
        await asyncio.sleep(0.5)
        started = time.monotonic()
        service.stop()

        assert all(events_of(response) == [] for response in await asyncio.gather(*waiting))
        assert time.monotonic() - started < 15


async def test_a_hundred_long_polls_leave_room_for_everybody_else(service: Service, repo: Path) -> None:
    waiting = [asyncio.create_task(service.get(f"{EVENTS}&cursor=1&waitSeconds=25")) for _ in range(100)]
    await asyncio.sleep(0.5)
    started = time.monotonic()
    assert (await service.get(SNAPSHOT)).status_code == 200
    assert time.monotonic() - started < 15

    append(repo, ROLE)

    assert all(events_of(response) == [2] for response in await asyncio.gather(*waiting))


async def test_d8_log_rewritten_under_a_client_is_told_with_the_current_head(service: Service, repo: Path) -> None:
    chain = (await service.get(EVENTS)).json()["cursor"]["chain"]
    assert (await service.get(f"{EVENTS}&cursor=1&chain={chain}")).status_code == 200
    log = repo / ".superloop/loops/demo/events.jsonl"
    log.write_text(log.read_text().replace("R1", "R9"))

    response = await service.get(f"{EVENTS}&cursor=1&chain={chain}&waitSeconds=20")

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (409, "events_rewritten")
    assert error["cursor"]["eventLineCount"] == 1
    assert error["cursor"]["chain"] != chain


async def test_d20_client_of_the_base_contract_drains_100_000_events_by_the_cursor(tmp_path: Path) -> None:
    repo = loop_repo(tmp_path / "repo")
    line = '{"timestamp":"2026-11-22T08:00:00Z","event":"usage"}\n'
    with (repo / ".superloop/loops/demo/events.jsonl").open("a") as log:
        log.write(line * 99_999)
    async with running(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state") as service:
        cursor, pages, seen = 0, 0, 0
        while True:
            response = await service.get(f"{EVENTS}&cursor={cursor}&maxEvents=0")
            page = response.json()
            assert len(page["events"]) <= 5_000
            assert len(response.content) < 24 * 1024 * 1024
            lines = [event["cursor"]["eventLineOffset"] for event in page["events"]]
            assert lines == list(range(cursor + 1, page["cursor"]["eventLineOffset"] + 1))
            seen, pages, cursor = seen + len(lines), pages + 1, page["cursor"]["eventLineOffset"]
            if cursor == page["cursor"]["eventLineCount"]:
                break

    assert (seen, pages) == (100_000, 20)


async def test_d20_page_is_bounded_in_bytes_as_well(tmp_path: Path) -> None:
    repo = loop_repo(tmp_path / "repo")
    append(repo, *[{**ROLE, "data": {"text": "x" * 30_000}}] * 100)
    limits = ServiceSettings(page_max_bytes=256 * 1024)
    async with running(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state", settings=limits) as service:
        cursor, pages = 0, 0
        while cursor < 101:
            response = await service.get(f"{EVENTS}&cursor={cursor}")
            assert len(response.content) < 1024 * 1024
            assert events_of(response)
            cursor, pages = response.json()["cursor"]["eventLineOffset"], pages + 1

    assert pages > 5


async def test_pages_get_smaller_while_many_are_being_sent(service: Service) -> None:
    limits = ServiceSettings(page_max_bytes=400, pages_in_memory_bytes=1_600, page_min_bytes=100)
    reader: SpriteReader = service.reader
    endpoints = Endpoints(reader, service.controller, limits, asyncio.Event(), Metrics())

    granted = [endpoints._grant_page() for _ in range(8)]

    assert granted == [400, 300, 225, 168, 126, 100, 100, 100]
    for size in granted:
        endpoints._release_page(size)
    assert endpoints._grant_page() == 400
    endpoints.close()


@pytest.mark.parametrize("extra", ["", "&maxEvents=3"])
async def test_quarantined_lines_are_reported_and_never_block(service: Service, repo: Path, extra: str) -> None:
    with (repo / ".superloop/loops/demo/events.jsonl").open("a") as log:
        log.write("garbage\n")
    append(repo, ROLE)

    page = (await service.get(f"{EVENTS}&cursor=0{extra}")).json()

    assert [event["cursor"]["eventLineOffset"] for event in page["events"]] == [1, 3]
    assert [line["line"] for line in page["quarantined"]] == [2]


async def test_text_that_json_cannot_carry_is_mended_not_refused(service: Service, repo: Path) -> None:
    with (repo / ".superloop/loops/demo/events.jsonl").open("ab") as log:
        log.write(b'{"timestamp":"2026-11-22T08:00:00Z","event":"x","data":{"a":"\\ud800","b":1e999,"c":"\xff"}}\n')

    response = await service.get(f"{EVENTS}&cursor=1")

    raw = json.loads(response.content.decode("utf-8"))["events"][0]["event"]["raw"]
    assert raw["data"] == {"a": "�", "b": None, "c": "�"}

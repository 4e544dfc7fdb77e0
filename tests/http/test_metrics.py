"""`/metrics` counts what really happened, in Prometheus' text format."""

import asyncio
import re
from pathlib import Path

from tests.control.support import append, eventually
from tests.http.support import Service

EVENTS = "/ops/events?loopId=demo"
SAMPLE = re.compile(r'(sprite_[a-z_]+)(?:\{((?:[a-z]+="[^"\\\n]*",?)+)\})? (\d+)')


async def counted(service: Service) -> dict[str, int]:
    """The samples; fails for a line that is not of the format, or a sample without its HELP and TYPE."""
    response = await service.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples, described = {}, set()
    assert response.text.endswith("\n")
    for line in response.text.splitlines():
        if line.startswith("# "):
            _, word, name, _ = line.split(" ", 3)
            described.add((word, name))
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert {("HELP", match[1]), ("TYPE", match[1])} <= described
        assert line.rpartition(" ")[0] not in samples
        samples[line.rpartition(" ")[0]] = int(match[3])
    return samples


def route(path: str, status: int) -> str:
    return f'sprite_http_requests_total{{route="{path}",status="{status}"}}'


def control(intent: str, outcome: str, replayed: str = "false") -> str:
    return f'sprite_control_requests_total{{intent="{intent}",outcome="{outcome}",replayed="{replayed}"}}'


async def test_requests_are_counted_by_route_and_status_never_by_what_a_client_made_up(service: Service) -> None:
    for _ in range(3):
        await service.get("/ops/snapshot?loopId=demo")
    await service.get("/ops/snapshot?loopId=nope")
    await service.get("/ops/control/a%22b?loopId=demo")
    await service.get("/made/up")
    await service.client.get("/ops/snapshot?loopId=demo")

    seen = await counted(service)

    assert {name: count for name, count in seen.items() if "requests_total{route" in name} == {
        route("/ops/snapshot", 200): 3,
        route("/ops/snapshot", 404): 1,
        route("/ops/control/{key}", 404): 1,
        route("none", 404): 1,
        route("none", 401): 1,
    }
    assert (await counted(service))[route("/metrics", 200)] == 1


async def test_control_requests_are_counted_by_what_was_answered(service: Service) -> None:
    body = {"loopId": "demo", "intent": "approve", "noConfirm": True, "idempotencyKey": "k"}
    await service.control(body)
    await service.control(body)
    await service.control({**body, "intent": "reject"})
    await service.control({"loopId": "demo", "intent": "cancel"})
    await service.control({"loopId": "demo", "intent": "pause"})

    seen = await counted(service)

    assert {name: count for name, count in seen.items() if name.startswith("sprite_control")} == {
        control("approve", "executed_unconfirmed"): 1,
        control("approve", "executed_unconfirmed", "true"): 1,
        control("reject", "key_reused"): 1,
        control("cancel", "nothing_to_cancel"): 1,
    }


async def test_what_goes_on_now_is_shown_while_it_does(service: Service, repo: Path) -> None:
    waiting = [asyncio.create_task(service.get(f"{EVENTS}&cursor=1&waitSeconds=25")) for _ in range(3)]
    tasks = service.server.server_state.tasks
    await eventually(lambda: len(tasks) == 3, "all of them are asked")

    async def all_wait() -> dict[str, int]:
        while (seen := await counted(service))["sprite_http_long_polls"] < 3:  # noqa: ASYNC110  (asked over HTTP)
            await asyncio.sleep(0.01)
        return seen

    seen = await asyncio.wait_for(all_wait(), 20)
    assert seen["sprite_http_requests_in_progress"] == 4, "this one included"
    assert seen["sprite_http_connections"] >= 4

    append(repo, {"event": "role_start", "run_id": "R1"})
    await asyncio.gather(*waiting)
    after = await counted(service)
    assert (after["sprite_http_long_polls"], after["sprite_http_requests_in_progress"]) == (0, 1)

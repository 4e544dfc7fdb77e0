"""One idempotency key over HTTP (D12): who waits, who is refused, and who may try again."""

import asyncio
from pathlib import Path
from typing import Any

from tests.control.support import GATED, effects, eventually, fake_runtime, open_gate
from tests.http.support import Service, running

ASKED = {"loopId": "demo", "intent": "approve", "by": "ana", "noConfirm": True, "idempotencyKey": "k"}


async def post(service: Service, **changes: Any) -> Any:
    return await service.control({**ASKED, **changes})


async def test_d12_four_concurrent_posts_of_one_key_are_one_execution(repo: Path, tmp_path: Path) -> None:
    runtime = fake_runtime(tmp_path / "fake", GATED)
    async with running(repo, runtime, tmp_path / "state") as service:
        posts = [asyncio.create_task(post(service)) for _ in range(4)]
        await eventually(lambda: sum(one.done() for one in posts) == 3, "three of them have been told")
        refused = [one.result() for one in posts if one.done()]
        looked_up = await service.get("/ops/control/k?loopId=demo")
        open_gate(runtime)
        answers = await asyncio.gather(*posts)

    for answer in (*refused, looked_up):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "in_flight")
        assert int(answer.headers["retry-after"]) >= 1
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(effects(runtime)) == 1


async def test_d12_another_payload_under_a_used_key_is_422_while_it_runs_and_afterwards(
    repo: Path, tmp_path: Path
) -> None:
    runtime = fake_runtime(tmp_path / "fake", GATED)
    async with running(repo, runtime, tmp_path / "state") as service:
        first = asyncio.create_task(post(service))
        await eventually(lambda: effects(runtime), "the command runs")
        while_it_runs = await post(service, intent="reject")
        open_gate(runtime)
        await first
        afterwards = await post(service, expect={"runId": "R1"})

    for answer in (while_it_runs, afterwards):
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "key_reused")
        assert "no effect" in answer.json()["error"]["message"]
    assert len(effects(runtime)) == 1


async def test_d12_failure_before_any_effect_may_be_retried_and_one_after_it_is_replayed(
    repo: Path, tmp_path: Path
) -> None:
    runtime = fake_runtime(tmp_path / "fake", "exit 1")
    script = runtime.read_bytes()
    async with running(repo, runtime, tmp_path / "state") as service:
        runtime.write_bytes(b"\x00not a program")
        before = await post(service)
        looked_up = await service.get("/ops/control/k?loopId=demo")
        runtime.write_bytes(script)
        failed, again = await post(service), await post(service)

    assert (before.status_code, before.json()["error"]["code"]) == (502, "runtime_error")
    assert "no effect" in before.json()["error"]["message"]
    assert looked_up.status_code == 404
    assert [(one.status_code, one.json()["replayed"]) for one in (failed, again)] == [(500, False), (500, True)]
    assert len(effects(runtime)) == 1

"""A service that dies, or falls silent, while its loop works hard: seen everywhere, told once, and nothing is lost."""

import json
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cli.supervisors import running_supervisors
from contract.identifiers import split_workflow_id
from contract.status import Attention, IntentStage
from sprite.drill import ChaosProxy, Fault, Setting
from sprite.standin import FAST_PACE_MS
from tests.harness import Supervised, Supervisors
from tests.harness_sprite import CONTINUE, Sprite, runs, until
from tests.interop.independent import read_log
from tests.receiver import assert_each_told_once, receiving

PATIENCE_S = 90.0
"""A service that hangs is missed within a minute."""
TOILING = {
    "pace_ms": {**FAST_PACE_MS, "role": 50},
    "loops": {"demo": runs([CONTINUE], max_iterations=100_000, stuck_threshold=0)},
}
OPENED, CLOSED = ("service_down", "opened"), ("service_down", "closed")
Act = Callable[[Sprite, ChaosProxy], Awaitable[None]]


async def _kill(sprite: Sprite, _: ChaosProxy) -> None:
    sprite.kill_service()


async def _start_again(sprite: Sprite, _: ChaosProxy) -> None:
    await sprite.serve_as_process()


async def _swallow(_: Sprite, proxy: ChaosProxy) -> None:
    await proxy.set(Setting(Fault.BLACK_HOLE))


async def _let_through(_: Sprite, proxy: ChaosProxy) -> None:
    await proxy.set(Setting())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("goes", "comes_back"),
    [
        pytest.param(_kill, _start_again, id="killed"),
        pytest.param(_swallow, _let_through, id="black-holed", marks=pytest.mark.slow),
    ],
)
async def test_service_that_goes_under_load_is_stood_in_for_and_told_once_and_so_is_its_return(
    supervise: Supervisors, new_sprite: Any, tmp_path: Path, goes: Act, comes_back: Act
) -> None:
    sprite: Sprite = new_sprite("acme", TOILING)
    await sprite.serve_as_process()
    with receiving(tmp_path / "receiver") as receiver:
        async with sprite.local_worker(supervise.client), ChaosProxy.before(sprite.url) as proxy:
            url = sprite.url if goes is _kill else proxy.url
            loop = await supervise(sprite, target=sprite.target(service_url=url), webhook=receiver.webhook)
            run = sprite.run()
            await loop.until(lambda seen: (seen.iteration or 0) >= 3, "it works")
            await goes(sprite, proxy)
            written = len(sprite.events())
            await loop.until(lambda seen: seen.transport.state == "local", "local", timeout_s=PATIENCE_S)
            await loop.until(lambda seen: seen.cursor.event_line_offset > written, "lines come through local")
            await receiver.until_told(OPENED)
            await _is_seen(loop, Attention.SERVICE_DOWN, "local")
            # For as long as it lasts nothing more is said of it.
            later = (await loop.status()).cursor.event_line_offset + 200
            await loop.until(lambda seen: seen.cursor.event_line_offset > later, "much more comes through local")
            assert receiver.told == [OPENED]

            await comes_back(sprite, proxy)
            await loop.until(lambda seen: seen.transport.state == "sprite_service", "the service again")
            await receiver.until_told(OPENED, CLOSED)
            await _is_seen(loop, Attention.NONE, "sprite_service")
            _hold_between_writes(run, sprite)
            await loop.send("CANCEL_LOOP", {"by": "ana"})
            await loop.until_intent(IntentStage.CONFIRMED)
            on_disk = read_log(sprite.log())
            ended = await loop.until(
                lambda seen: (seen.lifecycle, seen.cursor.event_line_offset) == ("stopped", on_disk.line_count), "over"
            )
            await loop.until(lambda seen: seen.notices and seen.notices.pending == 0, "all is delivered")
    # The chain over every line in its order: none is missing, and none counts twice.
    assert (ended.cursor.chain, ended.cursor.epoch, ended.divergence) == (on_disk.chain, 1, [])
    assert [change.lifecycle.value for change in ended.transitions if change.lifecycle != "not_started"] == [
        "starting", "running", "stopped",
    ]  # fmt: skip
    assert receiver.told == [OPENED, CLOSED]
    assert_each_told_once(receiver)


def _hold_between_writes(run: "subprocess.Popen[bytes]", sprite: Sprite) -> None:
    """Stop the run where its state is whole: one that is ended while it writes leaves an empty state.json behind."""
    state = sprite.repo / ".superloop" / "state.json"
    run.send_signal(signal.SIGSTOP)
    while not (state.exists() and state.stat().st_size):
        run.send_signal(signal.SIGCONT)
        time.sleep(0.01)
        run.send_signal(signal.SIGSTOP)


async def _is_seen(loop: Supervised, attention: Attention, transport: str) -> None:
    """In the status, on the card, and among what a list filtered by transport and attention finds."""
    status = await loop.status()
    assert (status.attention.code, status.transport.state) == (attention, transport)
    told = await loop.house.temporal("workflow", "metadata", "--workflow-id", loop.id, "-o", "json")
    (metadata,) = json.loads(told.stdout)["queryResult"]
    card = metadata["currentDetails"]
    for shown in (status.attention.sentence, card):
        assert ("The sprite service does not answer" in shown) == (attention is Attention.SERVICE_DOWN), shown
    assert f"through the {transport.replace('_', ' ')}" in card
    name, _ = split_workflow_id(loop.id)
    condition = f"LoopTransport = '{transport}' AND LoopAttention = '{attention.value}'"

    async def is_listed() -> bool:
        return name in {row.sprite for row in await running_supervisors(loop.house.client, condition)}

    await until(is_listed, f"it is listed where {condition}")

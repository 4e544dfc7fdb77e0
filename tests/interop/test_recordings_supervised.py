"""Every recording of the real runtime, played at 20x under supervision, through HTTP and through the local transport.

The truths are written down here by hand from what the runtime did (commands.log and events of each recording); cursor,
chain and line count come from a reader that shares no code with the product.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import groupby, zip_longest
from typing import NamedTuple

import pytest
import pytest_asyncio

from contract.observation import Transport
from contract.status import StatusReport
from sprite.standin.player import Player
from tests.harness import FAST, House, Supervisors
from tests.harness_sprite import Sprite
from tests.interop.independent import Read, canonical, read_log
from tests.recordings.unpack import SCENARIOS, recording

SPEED = 20.0
SLOWLY = "11-kill9-slowly"
SLOW_SPEED = 0.6
AT_ONCE = 6
SETTLE_TIMEOUT_S = 40.0


class Truth(NamedTuple):
    """What really happened. `lifecycles` without repetitions, an end in the middle with its reason; the last one is
    the end, with `reason`."""

    lines: int
    lifecycles: str
    reason: str
    run_id: str
    iteration: int


TRUTHS = {
    "01-happy": Truth(52, "starting running complete", "loop_complete", "2026-11-22T08:06:50Z", 2),
    "02-approve": Truth(
        33,
        "starting running awaiting_approval starting awaiting_approval decided starting complete",
        "loop_complete",
        "2026-11-22T08:07:35Z",
        1,
    ),
    "04-cancel": Truth(
        57,
        "starting running stopped:state_removed starting running complete",
        "loop_complete",
        "2026-11-22T08:07:54Z",
        1,
    ),
    "05-max-iterations": Truth(52, "starting running stopped", "max_iterations", "2026-11-22T08:08:50Z", 2),
    "06-role-timeout": Truth(31, "starting running failed", "role_timeout", "2026-11-22T08:08:08Z", 2),
    "08-no-progress": Truth(50, "starting running stopped", "no_progress", "2026-11-22T08:08:29Z", 2),
    "10-rate-limit": Truth(6, "starting running failed", "rate_limited", "2026-11-22T08:08:50Z", 1),
    "11-kill9": Truth(5, "starting running stopped", "state_removed", "2026-11-22T08:09:03Z", 1),
    SLOWLY: Truth(5, "starting running failed:crashed stopped", "state_removed", "2026-11-22T08:09:03Z", 1),
    "14-tests-fail": Truth(27, "starting running stopped", "max_iterations", "2026-11-22T08:11:02Z", 1),
}


class Played(NamedTuple):
    """How a supervised recording ended: the report, what was on disk, and what went wrong on the way if anything."""

    report: StatusReport | None
    on_disk: Read
    failure: BaseException | None


@pytest_asyncio.fixture(scope="module")
async def played(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[tuple[str, Transport], Played]]:
    """All recordings through both transports, some at a time, so that all of it takes seconds.

    The killed run once more, slowly: it lies there for seconds before it is cleared, and a crash needs two readings.
    """
    folder = tmp_path_factory.mktemp("recordings")
    slots = asyncio.Semaphore(AT_ONCE)
    async with Supervisors(house) as supervise:

        async def one(scenario: str, transport: Transport) -> Played:
            async with slots:
                name = f"{scenario}-{transport.value.replace('_', '-')}"
                with Sprite(folder / name, name) as sprite:
                    return await _play(house, supervise, sprite, scenario, transport)

        wanted = [(scenario, transport) for scenario in [SLOWLY, *SCENARIOS] for transport in Transport]
        yield dict(zip(wanted, await asyncio.gather(*(one(*each) for each in wanted)), strict=True))


async def _play(house: House, supervise: Supervisors, sprite: Sprite, scenario: str, transport: Transport) -> Played:
    report: StatusReport | None = None
    try:
        async with AsyncExitStack() as stack:
            if transport is Transport.LOCAL:
                await stack.enter_async_context(sprite.local_worker(house.client))
            else:
                sprite.serve()
            loop = await supervise(sprite, local_only=transport is Transport.LOCAL, options=FAST)
            await loop.until(lambda seen: seen.last_contact_at, "the loop is looked at")
            speed = SLOW_SPEED if scenario == SLOWLY else SPEED
            player = stack.enter_context(Player(recording(scenario.removesuffix("-slowly")), sprite.repo, speed=speed))
            await asyncio.to_thread(player.play)
            truth = TRUTHS[scenario]
            report = await loop.until(
                lambda seen: (
                    (seen.cursor.event_line_offset, seen.lifecycle, seen.reason)
                    == (truth.lines, truth.lifecycles.split()[-1], truth.reason)
                ),
                f"the end of {scenario}: {truth}",
                timeout_s=SETTLE_TIMEOUT_S,
            )
    except (AssertionError, OSError) as error:
        return Played(report, read_log(sprite.log()), error)
    return Played(report, read_log(sprite.log()), None)


@pytest.fixture(params=[pytest.param((s, t), id=f"{s}-{t.value}") for s in [SLOWLY, *SCENARIOS] for t in Transport])
def case(request: pytest.FixtureRequest, played: dict[tuple[str, Transport], Played]) -> tuple[str, Played]:
    scenario, transport = request.param
    return scenario, played[scenario, transport]


def test_recording_played_under_supervision_gives_the_cursor_and_chain_of_an_independent_reader(
    case: tuple[str, Played],
) -> None:
    scenario, result = case
    assert result.on_disk.line_count == TRUTHS[scenario].lines, "the player did not play all of it"
    assert result.failure is None, result.failure
    assert result.report is not None
    cursor = result.report.cursor
    assert (cursor.event_line_offset, cursor.chain) == (result.on_disk.line_count, result.on_disk.chain)
    assert (cursor.epoch, cursor.quarantined, cursor.unverifiable_from) == (1, 0, None)


def test_recording_played_under_supervision_gives_the_true_sequence_of_lifecycles(case: tuple[str, Played]) -> None:
    scenario, result = case
    assert result.failure is None, result.failure
    assert result.report is not None
    expected = TRUTHS[scenario].lifecycles.split()
    told = _lifecycles(scenario, result.report)
    assert [
        one if ":" in wanted else one.partition(":")[0] for one, wanted in zip_longest(told, expected, fillvalue="")
    ] == expected


def test_recording_played_under_supervision_ends_as_its_run_really_ended(case: tuple[str, Played]) -> None:
    scenario, result = case
    truth = TRUTHS[scenario]
    assert result.failure is None, result.failure
    report = result.report
    assert report is not None
    assert (report.lifecycle, report.reason, report.run_id, report.iteration) == (
        truth.lifecycles.split()[-1],
        truth.reason,
        truth.run_id,
        truth.iteration,
    )
    assert (report.divergence, report.resolved_divergence) == ([], [])


def _lifecycles(scenario: str, report: StatusReport) -> list[str]:
    """The sequence of lifecycles with their reasons, one entry a lifecycle, without what may be seen in passing."""
    seen = [(transition.lifecycle.value, transition.reason) for transition in report.transitions]
    if scenario == "11-kill9" and seen[-2:-1] == [("failed", "crashed")]:
        # The killed run lay there for 5 s before it was cleared, a quarter of a second at this pace: too short for
        # the two readings that a crash needs, unless the machine is slow.
        del seen[-2]
    collapsed = [next(same) for _, same in groupby(seen, key=lambda pair: pair[0])]
    return [f"{lifecycle}:{reason}" for lifecycle, reason in collapsed if lifecycle != "not_started"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # From the examples of RFC 8785.
        ([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27], "[333333333.3333333,1e+30,4.5,0.002,1e-27]"),
        (
            {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7},
            '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}',
        ),
        ([5e-324, 9007199254740992, 295147905179352830000, -0.0], "[5e-324,9007199254740992,295147905179352830000,0]"),
        ('\u20ac$\u000f\nA\'B"\\\\"/', '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
    ],
)
def test_independent_reader_writes_json_as_the_standard_says(value: object, text: str) -> None:
    assert canonical(value) == text

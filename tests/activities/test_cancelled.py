"""How an activity ends that nobody waits for, and how it ends when its result is wanted no more."""

import asyncio

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.heartbeats import unless_shutdown


async def cancelled(details: ActivityCancellationDetails) -> None:
    environment, begun = ActivityEnvironment(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def watch() -> None:
        await unless_shutdown(work())

    running = asyncio.create_task(environment.run(watch))
    await begun.wait()
    environment.cancel(details)
    await asyncio.wait_for(running, 10)


async def test_released_loop_ends_its_observer_without_a_traceback_in_the_log() -> None:
    with pytest.raises(ApplicationError) as raised:
        await cancelled(ActivityCancellationDetails(not_found=True))
    assert raised.value.category is ApplicationErrorCategory.BENIGN
    assert raised.value.non_retryable


async def test_superseded_observer_is_cancelled() -> None:
    with pytest.raises(asyncio.CancelledError):
        await cancelled(ActivityCancellationDetails(cancel_requested=True))

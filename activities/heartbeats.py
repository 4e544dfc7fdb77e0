"""What runs beside a long activity: heartbeats with the count of transport failures, and the worker's shutdown.

Heartbeat details survive into the next attempt, also those given right before an attempt fails: the SDK delivers the
newest details before it reports the failure, throttled or not. So failures are counted across attempts without
counting the attempts that a deploy or a crash consumes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.failures import TransportFailure, clipped
from contract.clock import format_utc
from contract.observation import FailureType, ObserveHeartbeat

BEAT_INTERVAL_S = 5.0
"""The SDK throttles what goes to the server; this only keeps its newest details fresh."""
RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)
"""Before the next attempt, by failures so far: three failures of a refusing service are over within ten seconds."""

_T = TypeVar("_T")


def now() -> datetime:
    """This machine's clock, UTC."""
    return datetime.now(UTC)


class ContactLog:
    """The last contact and the transport failures since, kept in the heartbeat details."""

    def __init__(self, details: ObserveHeartbeat | None = None) -> None:
        self.details = details or ObserveHeartbeat()

    @classmethod
    def resume(cls) -> ContactLog:
        """Go on where the previous attempt of the running activity stopped."""
        given = activity.info().heartbeat_details
        try:
            return cls(ObserveHeartbeat.model_validate(given[0]) if given else None)
        except ValidationError:
            return cls()

    @property
    def failing(self) -> bool:
        """Whether the transport has failed since it last worked."""
        return self.details.transport_failures > 0

    def answered(self, line_count: int | None = None) -> None:
        """A reading was completed: nothing is failing any more."""
        known = self.details.line_count if line_count is None else line_count
        self.details = ObserveHeartbeat(last_contact_at=now(), line_count=known)
        self.beat()

    def missed(self, reason: str) -> None:
        """A try that is not counted against anybody, only shown."""
        self.details = self.details.model_copy(
            update={"failing_since": self.details.failing_since or now(), "last_error": reason}
        )
        self.beat()

    def failed(self, failure: TransportFailure) -> None:
        """One more transport failure."""
        self.details = self.details.model_copy(
            update={
                "transport_failures": self.details.transport_failures + 1,
                "failing_since": self.details.failing_since or now(),
                "last_error": clipped(str(failure)),
            }
        )
        self.beat()

    def beat(self) -> None:
        """Hand the details to the SDK."""
        activity.heartbeat(self.details)

    def error(self, failure: TransportFailure, *, limit: int) -> ApplicationError:
        """What to raise after `failed`: a failure that Temporal retries; at `limit` that the transport is exhausted."""
        count, since = self.details.transport_failures, self.details.failing_since or now()
        if count >= limit:
            message = f"failed {count} times in a row since {format_utc(since)}, last: {clipped(str(failure))}"
            return ApplicationError(
                message,
                type=FailureType.TRANSPORT_EXHAUSTED.value,
                non_retryable=True,
                category=ApplicationErrorCategory.BENIGN,
            )
        return ApplicationError(
            f"failure {count} of {limit}: {clipped(str(failure))}",
            type=FailureType.TRANSPORT_FAILURE.value,
            category=ApplicationErrorCategory.BENIGN,
            next_retry_delay=timedelta(seconds=RETRY_DELAYS_S[min(count, len(RETRY_DELAYS_S)) - 1]),
        )


@contextlib.asynccontextmanager
async def heartbeating(beat: Callable[[], None]) -> AsyncIterator[None]:
    """Call `beat` now and every few seconds beside the body, whatever that waits for."""
    timeout = activity.info().heartbeat_timeout
    interval_s = min(BEAT_INTERVAL_S, timeout.total_seconds() / 3) if timeout else BEAT_INTERVAL_S

    async def keep_beating() -> None:
        while True:
            beat()
            await asyncio.sleep(interval_s)

    task = asyncio.create_task(keep_beating())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def unless_shutdown(work: Coroutine[Any, Any, _T]) -> _T | None:
    """The result of `work`, or None at once when the worker is being shut down.

    An activity that then returns by itself costs no attempt. `work` is cancelled and its end awaited in every case.

    Raises asyncio.CancelledError when somebody wants no result any more, or, where there is nobody left (the workflow
    was released), an ApplicationError that the SDK does not log as a mistake.
    """
    task = asyncio.create_task(work)
    shutdown = asyncio.create_task(activity.wait_for_worker_shutdown())
    try:
        await asyncio.wait({task, shutdown}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details is None or not details.not_found:
            raise
        message = "nobody waits for this any more"
        raise ApplicationError(message, non_retryable=True, category=ApplicationErrorCategory.BENIGN) from None
    finally:
        task.cancel()
        shutdown.cancel()
        await asyncio.gather(task, shutdown, return_exceptions=True)

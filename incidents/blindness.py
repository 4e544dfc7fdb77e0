"""Blind spans: from when nothing could be seen of the loop, until something was seen again.

The workflow calls itself blind when no transport answers any more. That takes a while to find out, so the span begins
earlier: with the first failure of those that ended the transport, as the observer counted them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from contract.clock import parse_utc
from contract.observation import ActivityName, ObserveInput
from incidents.entries import transport_words
from incidents.fold import observations
from incidents.history import ActivityRecord, Run, read_payload

_SINCE = re.compile(r"in a row since (\S+Z)")


@dataclass
class BlindSpan:
    """Nothing was seen from `began` to `ended` (None: until the end of what is known), for these reasons."""

    began: datetime
    ended: datetime | None
    reasons: list[str]
    run_id: str
    event_id: int
    through: str = ""

    def covers(self, at: datetime) -> bool:
        """Whether an instant lies in it."""
        return self.began <= at and (self.ended is None or at < self.ended)


def blind_spans(runs: Sequence[Run]) -> list[BlindSpan]:
    """The blind spans of runs that follow each other, in order."""
    spans: list[BlindSpan] = []
    open_span: BlindSpan | None = None
    for run in runs:
        seen = {found.event_id: found for found, counts in observations(run) if counts}
        own = run.reset.event_id if run.reset else 0
        observers = [a for a in run.activities if a.name == ActivityName.OBSERVE and (a.closed_event or 0) > own]
        for activity in sorted(observers, key=lambda a: a.closed_event or 0):
            found = seen.get(activity.closed_event or 0)
            if found is not None:
                if open_span is not None:
                    open_span.ended = found.at
                    open_span.through = found.observation.transport.value
                open_span = None
            elif activity.outcome in ("failed", "timed_out") and not activity.is_news_to_nobody:
                if open_span is None:
                    began = _began(activity)
                    open_span = BlindSpan(began, None, [], run.run_id, activity.closed_event or 0)
                    spans.append(open_span)
                reason = _reason(activity)
                if reason not in open_span.reasons:
                    open_span.reasons.append(reason)
    return spans


def _reason(activity: ActivityRecord) -> str:
    try:
        asked = read_payload(activity.input, ObserveInput) if activity.input else None
    except ValidationError:
        asked = None
    return f"the {transport_words(asked.transport.value)}: {activity.failure}" if asked else activity.failure


def _began(activity: ActivityRecord) -> datetime:
    told = _SINCE.search(activity.failure)
    since = parse_utc(told[1]) if told else None
    # The worker's clock may go wrong, too; it cannot have failed before it was asked.
    return max(since, activity.scheduled_at) if since else activity.scheduled_at

"""Durations as people write them: a number and its unit, `90s`, `5m`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

SHORTEST_INTERVAL = timedelta(seconds=1)
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def parse_duration(value: object) -> timedelta:
    """The duration that `value` names; raises ValueError for a number without a unit and for anything else."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a duration with its unit, such as 90s, 5m or 1h30m")
    text = str(value).strip()
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text):
        raise ValueError("must be a duration with its unit (ms, s, m, h, d), such as 90s, 5m or 1h30m")
    try:
        return timedelta(seconds=sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError("is longer than any duration can be") from None


def _positive(value: object) -> timedelta:
    duration = parse_duration(value)
    if duration <= timedelta():
        raise ValueError("must be longer than nothing")
    return duration


def _not_hammering(value: object) -> timedelta:
    duration = _positive(value)
    if duration < SHORTEST_INTERVAL:
        raise ValueError(f"must be at least {SHORTEST_INTERVAL.total_seconds():g}s")
    return duration


Duration = Annotated[timedelta, BeforeValidator(_positive)]
"""A pydantic field type: longer than zero, written with its unit."""
Interval = Annotated[timedelta, BeforeValidator(_not_hammering)]
"""A pydantic field type: a duration between two of something, long enough to leave the other side in peace."""

"""Times as the contract writes them: UTC, RFC 3339, `Z`, one-second resolution."""

from __future__ import annotations

from datetime import UTC, datetime


def format_utc(moment: datetime) -> str:
    """`moment` as `2026-11-22T03:12:07Z`; a naive time is refused with ValueError, because it names no instant."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: every time that crosses a boundary is UTC")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str | None) -> datetime | None:
    """The instant that an RFC 3339 text names, in UTC; None when it names none (artifacts are written by others)."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        # At either end of the calendar the same instant in UTC is no datetime: OverflowError.
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def age_seconds(emitted_at: str | None, timestamp: str | None) -> float | None:
    """Seconds from `timestamp` to `emitted_at`, both read off the sprite's clock, never negative.

    Clocks are never subtracted across machines, so both texts have to come from the same envelope.
    """
    emitted, stamped = parse_utc(emitted_at), parse_utc(timestamp)
    if emitted is None or stamped is None:
        return None
    return max(0.0, (emitted - stamped).total_seconds())

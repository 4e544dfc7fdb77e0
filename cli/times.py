"""Instants and spans as an operator reads them. Always UTC, and saying so."""

from __future__ import annotations

from datetime import datetime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def moment(instant: datetime | None, now: datetime) -> str:
    """`03:12:07Z` today, else `2026-11-22 03:12:07Z`; `never` for None."""
    if instant is None:
        return "never"
    form = "%H:%M:%SZ" if instant.date() == now.date() else "%Y-%m-%d %H:%M:%SZ"
    return instant.strftime(form)


def full_moment(instant: datetime | None) -> str:
    """`2026-11-22 03:12:07Z`, or `never`."""
    return instant.strftime("%Y-%m-%d %H:%M:%SZ") if instant else "never"


def span(seconds: float) -> str:
    """`0 s`, `59 s`, `4 min`, `3 h 5 min`, `2 d 4 h`: two units, the second only where it still tells something."""
    left = max(0, int(seconds))
    for index, (size, unit) in enumerate(_UNITS):
        if left < size and size > 1:
            continue
        whole, rest = divmod(left, size)
        finer = _UNITS[index + 1] if index + 1 < len(_UNITS) else None
        if finer is None or finer[1] == "s" or rest < finer[0]:
            return f"{whole} {unit}"
        return f"{whole} {unit} {rest // finer[0]} {finer[1]}"
    return "0 s"


def ago(instant: datetime | None, now: datetime) -> str:
    """`4 min ago` for an instant on the manager's own clocks; empty for None."""
    return f"{span((now - instant).total_seconds())} ago" if instant else ""

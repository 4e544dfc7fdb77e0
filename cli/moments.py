"""Instants that are typed on the command line: RFC 3339 with an offset, or UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


class MomentType(click.ParamType[datetime]):
    """`2026-11-22T03:12:07Z`; without an offset it is UTC, as everything that is printed."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """See base class."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value).strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2026-11-22T03:12:07Z", param, ctx)


MOMENT = MomentType()

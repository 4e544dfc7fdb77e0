"""The search attributes of a supervisor, and when they are worth an event in history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

from contract.status import SearchAttribute
from workflows.attention import assess
from workflows.report import transport_word
from workflows.state import SupervisorState
from workflows.wording import printable

LOOP_STATUS = SearchAttributeKey.for_keyword(SearchAttribute.LOOP_STATUS.value)
LOOP_ATTENTION = SearchAttributeKey.for_keyword(SearchAttribute.LOOP_ATTENTION.value)
LOOP_TRANSPORT = SearchAttributeKey.for_keyword(SearchAttribute.LOOP_TRANSPORT.value)
LOOP_OBSERVED_AT = SearchAttributeKey.for_datetime(SearchAttribute.LOOP_OBSERVED_AT.value)
SPRITE_ID = SearchAttributeKey.for_keyword(SearchAttribute.SPRITE_ID.value)
LOOP_ID = SearchAttributeKey.for_keyword(SearchAttribute.LOOP_ID.value)

ALL: list[SearchAttributeKey[Any]] = [
    LOOP_STATUS,
    LOOP_ATTENTION,
    LOOP_TRANSPORT,
    LOOP_OBSERVED_AT,
    SPRITE_ID,
    LOOP_ID,
]

OBSERVED_AT_REFRESH_S = 300.0
"""The time alone is worth an event this often while there is news; while there is none, nothing is written."""

MAX_VALUE_CHARS = 128
"""No name is longer. The server ends a workflow that upserts more than 2,048 bytes, in which a character may take 12 as
JSON, and PostgreSQL keeps 255 characters, none of them a NUL."""


def values(state: SupervisorState) -> dict[str, str]:
    """The keyword attributes that the state calls for; a loop not read to its head keeps its last status.

    Cut and cleaned here, whoever has checked them before: what the server does not take would end the supervision.
    """
    found = {
        LOOP_ATTENTION.name: assess(state).code.value,
        LOOP_TRANSPORT.name: transport_word(state),
        LOOP_ID.name: state.target.loop_id,
    }
    if state.target.sprite_id:
        found[SPRITE_ID.name] = state.target.sprite_id
    unread = state.condition is not None and state.projection.run is None
    if state.at_head or unread:
        found[LOOP_STATUS.name] = state.projection.lifecycle.value
    return {name: printable(value, MAX_VALUE_CHARS) for name, value in found.items()}


def updates(
    state: SupervisorState, written: dict[str, str], observed_written: datetime | None
) -> list[SearchAttributeUpdate[Any]]:
    """What to upsert now, given what was written before; empty when nothing is worth an event."""
    wanted = values(state)
    keys = {key.name: key for key in ALL}
    changed: list[SearchAttributeUpdate[Any]] = [
        keys[name].value_set(value) for name, value in wanted.items() if written.get(name) != value
    ]
    due = state.observed_at is not None and (
        observed_written is None or state.observed_at - observed_written >= timedelta(seconds=OBSERVED_AT_REFRESH_S)
    )
    if state.observed_at is not None and (changed or due):
        changed.append(LOOP_OBSERVED_AT.value_set(state.observed_at))
    return changed

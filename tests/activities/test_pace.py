from typing import Any

import pytest

from activities.chainwalk import Batch
from activities.pace import Pause, fruitless_pause_s, next_pause
from activities.reading import Reading
from contract.observation import (
    Contact,
    CursorPosition,
    Freshness,
    ObserveInput,
    ProcessDigest,
    SnapshotDigest,
    Transport,
)
from tests.activities.support import target


def asked(**changes: Any) -> ObserveInput:
    given = {"target": target(), "transport": Transport.SPRITE_SERVICE, "observer": 1, "cursor": CursorPosition()}
    return ObserveInput(**{**given, **changes})


def reading(
    process: Any = "alive", contact: Contact = Contact.OK, etag: str | None = "e-1", **snapshot: Any
) -> Reading:
    digest = SnapshotDigest(
        **{"emitted_at": "t", "status": "running", "process": ProcessDigest(state=process), **snapshot}
    )
    told = digest if contact is Contact.OK else None
    return Reading(contact, "d", Batch(CursorPosition(), 1, 1), snapshot=told, etag=etag)


@pytest.mark.parametrize(
    ("what", "keeps_awake", "age_s", "expected"),
    [
        (reading(), True, 0, Pause(25, long_poll=True)),
        (reading(etag=None), True, 0, Pause(2)),
        (reading("dead", etag=None), True, 0, Pause(60)),
        (reading("dead"), True, 0, Pause(60)),
        (reading("dead"), False, 0, Pause(25, long_poll=True)),
        (reading("absent", status="complete"), True, 0, Pause(60)),
        (reading(contact=Contact.NOT_READY), True, 59, Pause(2)),
        (reading(contact=Contact.NOT_READY), True, 61, Pause(60)),
        (reading(contact=Contact.NOT_READY), False, 61, Pause(2)),
        (reading(contact=Contact.UNAUTHORIZED), True, 61, Pause(60)),
        (reading(freshness=Freshness.FRESH, heartbeat_age_s=290), True, 0, Pause(11, long_poll=True)),
        (reading(freshness=Freshness.FRESH, heartbeat_age_s=300), True, 0, Pause(1, long_poll=True)),
        (reading(freshness=Freshness.STALE, heartbeat_age_s=400), True, 0, Pause(25, long_poll=True)),
    ],
)
def test_steady_pace(what: Reading, keeps_awake: bool, age_s: float, expected: Pause) -> None:
    assert next_pause(asked(), what, condition_age_s=age_s, waiting_keeps_awake=keeps_awake) == expected


@pytest.mark.parametrize("what", [reading(), reading("dead"), reading(contact=Contact.NOT_READY)])
def test_a_prompt_observer_polls_at_its_interval_whatever_it_sees(what: Reading) -> None:
    pause = next_pause(asked(interval_s=1.0), what, condition_age_s=0, waiting_keeps_awake=True)
    assert pause == Pause(1.0)


def test_a_service_that_ignores_the_wait_is_polled_at_the_running_interval() -> None:
    assert [fruitless_pause_s(asked(), n, etag_moved=False) for n in (1, 2, 9)] == [2, 2, 2]


def test_changes_without_interest_are_followed_less_and_less_closely() -> None:
    assert [fruitless_pause_s(asked(), n, etag_moved=True) for n in (1, 2, 3, 9)] == [0.5, 1.0, 2.0, 2.0]


def test_a_day_of_changes_without_interest_is_followed_at_the_running_interval() -> None:
    assert fruitless_pause_s(asked(), 100_000, etag_moved=True) == 2.0

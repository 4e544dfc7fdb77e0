"""Instants and spans as an operator reads them."""

from datetime import UTC, datetime, timedelta

import pytest

from cli.times import ago, full_moment, moment, span

NOW = datetime(2026, 11, 22, 3, 12, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (119, "1 min"),
        (3_600, "1 h"),
        (11_100, "3 h 5 min"),
        (86_400, "1 d"),
        (187_200, "2 d 4 h"),
        (86_400 + 59, "1 d"),
    ],
)
def test_span_names_two_units_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_moment_of_today_is_short_and_always_says_utc() -> None:
    assert moment(NOW, NOW) == "03:12:07Z"
    assert moment(NOW - timedelta(days=1), NOW) == "2026-11-21 03:12:07Z"
    assert full_moment(NOW) == "2026-11-22 03:12:07Z"


def test_unknown_moment_is_never_not_a_crash() -> None:
    assert (moment(None, NOW), full_moment(None), ago(None, NOW)) == ("never", "never", "")


def test_age_of_a_moment_in_the_future_is_not_negative() -> None:
    assert ago(NOW + timedelta(seconds=30), NOW) == "0 s ago"

"""The benches run, and what they measure is written down. What they measure is not judged here."""

import asyncio
import json
from pathlib import Path

import pytest

from bench.__main__ import BENCHES
from bench.figures import Figure, as_json, as_table, quantile
from bench.logs import event_lines
from bench.stage import TINY, Stage
from tests.harness import House
from tests.interop.independent import read_log


@pytest.mark.timeout(180)
async def test_every_bench_measures_something(house: House, tmp_path: Path) -> None:
    measured = await asyncio.gather(
        *(measure(Stage(house, tmp_path / name, TINY)) for name, measure in BENCHES.items())
    )
    figures = [figure for each in measured for figure in each]
    assert all(each for each in measured)
    assert all(figure.value > 0 for figure in figures)
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names)
    assert [kept["name"] for kept in json.loads(json.dumps(as_json(figures)))] == names
    assert len(as_table(figures).splitlines()) == 2 + len(figures)


def test_goal_is_a_bound_that_is_reached_or_missed() -> None:
    assert Figure("latency", 9.0, "s", at_most=10.0).reached
    assert Figure("rate", 9.0, "a second", at_least=10.0).reached is False
    assert Figure("size", 9.0, "MB").reached is None
    assert "**missed**" in as_table([Figure("rate", 9.0, "a second", at_least=10.0)])


def test_quantile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([7.0], 0.99)) == (50.0, 99.0, 7.0)


def test_log_of_a_bench_holds_events_only() -> None:
    assert read_log(b"".join(event_lines(500)))[::2] == (500, [])

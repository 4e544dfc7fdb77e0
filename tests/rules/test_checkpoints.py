"""Remembered positions, and how two logs are narrowed down to the first line that differs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.envelopes import MAX_CHAINS
from contract.observation import ChainAt, CursorPosition
from workflows import checkpoints
from workflows.reconciling import NARROWING_ROUNDS


def chain(line: int) -> str:
    return f"{line:064x}"


def at(line: int, epoch: int = 1) -> CursorPosition:
    return CursorPosition(epoch=epoch, line=line, chain=chain(line))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 500), max_size=400))
def test_checkpoints_are_bounded_ascend_and_end_with_the_newest(steps: list[int]) -> None:
    known: list[ChainAt] = []
    line = 0
    for step in steps:
        line += step
        known = checkpoints.noted(known, at(line))
        assert len(known) <= checkpoints.MAX_CHECKPOINTS
        assert known[-1] == ChainAt(line=line, chain=chain(line))
    lines = [one.line for one in known]
    assert lines == sorted(set(lines))
    # However many were forgotten: the first is among them, so that a comparison has something to begin with.
    assert not steps or lines[0] == steps[0]


def test_position_without_a_chain_or_without_news_is_not_remembered() -> None:
    known = checkpoints.noted([], at(5))
    assert checkpoints.noted(known, at(5)) == known
    assert checkpoints.noted(known, CursorPosition(line=9)) == known


def test_replay_begins_well_before_the_stable_line_or_at_the_first() -> None:
    known = [ChainAt(line=line, chain=chain(line)) for line in (10, 50, 68, 69, 100)]
    assert checkpoints.replay_start(known, at(100), at(120)) == at(68)
    assert checkpoints.replay_start(known, at(41), at(120)).line == 0
    assert checkpoints.replay_start(known, None, at(120)).line == 0
    assert checkpoints.replay_start(known, at(100), at(120, epoch=2)).line == 0


def test_replay_goes_again_over_a_line_that_was_seen_to_differ() -> None:
    known = [ChainAt(line=line, chain=chain(line)) for line in (10, 50, 68)]
    starts = {
        doubted: checkpoints.replay_start(known, at(100), at(120), doubted=doubted).line for doubted in (7, 11, 60)
    }
    assert starts == {7: 0, 11: 10, 60: 50}
    assert checkpoints.replay_start(known, at(100), at(120), doubted=90).line == 68


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3_000_000), st.data())
def test_first_differing_line_is_found_within_the_rounds_whatever_the_length(length: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, length))
    theirs_end = data.draw(st.integers(first - 1, length))
    same, different = 0, length
    for _ in range(NARROWING_ROUNDS):
        lines = checkpoints.spread(same, different)
        assert len(lines) <= MAX_CHAINS
        ours = {line: chain(line) for line in lines}
        theirs = {line: chain(line) if line < first else "other" for line in lines if line <= theirs_end}
        same, different = checkpoints.narrowed(same, different, ours, theirs)
    assert (same, different) == (first - 1, first)

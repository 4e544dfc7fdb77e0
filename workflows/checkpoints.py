"""Positions of the log whose chain is remembered, and how two logs are narrowed down to the first line that differs."""

from __future__ import annotations

from collections.abc import Mapping

from contract.envelopes import MAX_CHAINS
from contract.observation import ChainAt, CursorPosition

MAX_CHECKPOINTS = 64
OVERLAP_LINES = 32
"""A replay begins at least so many lines before the last stable one."""
_NEWEST = 16
"""These are never thinned."""


def noted(checkpoints: list[ChainAt], cursor: CursorPosition) -> list[ChainAt]:
    """With the position of `cursor`; beyond the bound every second of the older ones is forgotten."""
    if cursor.chain is None or (checkpoints and cursor.line <= checkpoints[-1].line):
        return checkpoints
    known = [*checkpoints, ChainAt(line=cursor.line, chain=cursor.chain)]
    return known if len(known) <= MAX_CHECKPOINTS else [*known[:-_NEWEST:2], *known[-_NEWEST:]]


def replay_start(
    checkpoints: list[ChainAt], stable: CursorPosition | None, cursor: CursorPosition, *, doubted: int | None = None
) -> CursorPosition:
    """Where to begin: the last remembered position that lies OVERLAP_LINES before the stable one; else line 0.

    And before `doubted`, a line that was seen to differ: only a replay that goes over it again can take that back.
    """
    latest = stable.line - OVERLAP_LINES if stable is not None and stable.epoch == cursor.epoch else 0
    latest = latest if doubted is None else min(latest, doubted - 1)
    known = [at for at in checkpoints if at.line <= latest]
    if not known:
        return CursorPosition(epoch=cursor.epoch)
    return CursorPosition(epoch=cursor.epoch, line=known[-1].line, chain=known[-1].chain)


def within(checkpoints: list[ChainAt], after: int, before: int) -> list[ChainAt]:
    """Those strictly between two lines."""
    return [at for at in checkpoints if after < at.line < before]


def spread(same: int, different: int) -> list[int]:
    """Lines strictly between, evenly spread, at most as many as can be asked for at once."""
    between = different - same - 1
    if between <= MAX_CHAINS:
        return list(range(same + 1, different))
    return [same + (different - same) * step // (MAX_CHAINS + 1) for step in range(1, MAX_CHAINS + 1)]


def narrowed(same: int, different: int, ours: Mapping[int, str], theirs: Mapping[int, str]) -> tuple[int, int]:
    """(highest line known to be the same, lowest known to differ), by the chains that `ours` has.

    A line that `theirs` does not have differs: their log has ended before.
    """
    for line in sorted(ours):
        if not same < line < different:
            continue
        if theirs.get(line) != ours[line]:
            return same, line
        same = line
    return same, different

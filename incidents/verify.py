"""Whether history and the event log tell the same: line by line, and by the chain over them.

Three sources are compared that know nothing of each other: the lines as the log has them now, the lines as results of
`observe` brought them into history, and the cursor that the workflow's own code comes to when it is replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from contract.reports import Report
from contract.status import CursorReport
from incidents.fold import Epoch, Folded, fold
from incidents.history import Run
from incidents.log import EventLog

SHOWN_DIFFERENCES = 20


class EpochReport(Report):
    """One epoch as history has it: lines consumed, the chain there, and what was told twice or never.

    `from_line`: the lines up to it were taken by runs whose histories are not at hand. `brought_again`: all the same,
    each was applied once.
    """

    epoch: int
    lines: int
    chain: str | None = None
    from_line: int = 0
    quarantined: int = 0
    brought_again: int = 0
    gaps: list[tuple[int, int]] = Field(default_factory=list)
    unverifiable_from: int | None = None


class LogReport(Report):
    """The log as it was read: how many lines, the chain over all of them, and what was not read."""

    transport: str
    read_at: datetime
    lines: int
    chain: str | None = None
    trouble: str = ""


class Difference(Report):
    """Where two of the sources disagree, and in what."""

    epoch: int
    line: int
    what: str
    history: str | None = None
    log: str | None = None
    run_id: str | None = None
    event_id: int | None = None


class VerifyReport(Report):
    """The result of a comparison.

    `agreed` is None where nothing disagrees and the log was not at hand, not read to its end, or did not show what
    history has of it; `unshown` are the first of those lines.
    """

    workflow_id: str
    first_run_id: str
    runs: int
    observations: int
    dropped: int
    epochs: list[EpochReport]
    belief: CursorReport | None = None
    log: LogReport | None = None
    new_lines: int = 0
    differences: list[Difference] = Field(default_factory=list)
    more_differences: int = 0
    unshown: list[int] = Field(default_factory=list)
    agreed: bool | None = None
    sentence: str = ""


def verify(chain: Sequence[Run], *, log: EventLog | None, belief: CursorReport | None) -> VerifyReport:
    """Compare the histories of one continue-as-new chain, the log, and what the workflow believes at the end of it."""
    folded = fold(chain)
    if belief is not None and belief.epoch > folded.newest.number and belief.event_line_offset == 0:
        # Begun by an operator or by a comparison, which no observation tells; nothing has been read under it yet.
        folded.epochs.append(Epoch(belief.epoch))
    differences = _inner(folded)
    if belief is not None:
        differences += _against_belief(folded.newest, belief)
    if log is not None:
        differences += _against_log(folded.newest, log)
    differences.sort(key=lambda difference: (difference.epoch, difference.line))
    unshown = _unshown(folded.newest, log) if log else []
    report = VerifyReport(
        workflow_id=chain[0].workflow_id,
        first_run_id=chain[0].first_run_id,
        runs=len(chain),
        observations=folded.observations,
        dropped=folded.dropped,
        epochs=[_epoch_report(epoch) for epoch in folded.epochs],
        belief=belief,
        log=_log_report(log) if log else None,
        new_lines=max(0, log.line_count - folded.newest.head) if log else 0,
        differences=differences[:SHOWN_DIFFERENCES],
        more_differences=max(0, len(differences) - SHOWN_DIFFERENCES),
        unshown=unshown[:SHOWN_DIFFERENCES],
        agreed=False if differences else (True if log and not log.trouble and not unshown else None),
    )
    report.sentence = _sentence(report, folded.newest)
    return report


def _epoch_report(epoch: Epoch) -> EpochReport:
    return EpochReport(
        epoch=epoch.number,
        lines=epoch.head,
        chain=epoch.chain,
        from_line=epoch.from_line,
        quarantined=sum(not hasattr(taken.digest, "name") for taken in epoch.lines.values()),
        brought_again=epoch.brought_again,
        gaps=epoch.gaps(),
        unverifiable_from=epoch.unverifiable_from,
    )


def _log_report(log: EventLog) -> LogReport:
    return LogReport(
        transport=log.transport,
        read_at=log.read_at,
        lines=log.line_count,
        chain=log.chain_at(log.line_count),
        trouble=log.trouble,
    )


def _inner(folded: Folded) -> list[Difference]:
    found = [
        Difference(epoch=c.epoch, line=c.line, what=f"history contradicts itself: {c.what}", run_id=c.run_id,
                   event_id=c.event_id)
        for c in folded.contradictions
    ]  # fmt: skip
    for epoch in folded.epochs:
        for first, last in epoch.gaps():
            # A service of the base contract cannot show a bad line: consumed, and said to be unverifiable.
            if epoch.unverifiable_from is None or first < epoch.unverifiable_from:
                what = f"lines {first} to {last} were consumed and history tells nothing of them"
                found.append(Difference(epoch=epoch.number, line=first, what=what))
    return found


def _against_belief(epoch: Epoch, belief: CursorReport) -> list[Difference]:
    told = (epoch.number, epoch.head, epoch.chain)
    believed = (belief.epoch, belief.event_line_offset, belief.chain)
    if told == believed or (epoch.head == 0 and belief.event_line_offset == 0 and epoch.number == belief.epoch):
        return []
    return [
        Difference(
            epoch=epoch.number,
            line=min(epoch.head, belief.event_line_offset),
            what="the workflow believes another cursor than its observations give",
            history=f"epoch {told[0]} line {told[1]} chain {(told[2] or 'none')[:16]}",
            log=f"believed: epoch {believed[0]} line {believed[1]} chain {(believed[2] or 'none')[:16]}",
        )
    ]


def _against_log(epoch: Epoch, log: EventLog) -> list[Difference]:
    found = _line_by_line(epoch, log)
    differing = min((difference.line for difference in found), default=None)
    for head in epoch.heads:
        if differing is not None and head.line >= differing:
            break  # every chain from there on differs
        chain = log.chain_at(head.line)
        if head.chain is not None and chain is not None and chain != head.chain:
            what = f"the chain after line {head.line} differs, although no line that history has the hash of does"
            found.append(
                Difference(
                    epoch=epoch.number, line=head.line, what=what, history=head.chain, log=chain,
                    run_id=head.run_id, event_id=head.event_id,
                )
            )  # fmt: skip
            break
    return found


def _line_by_line(epoch: Epoch, log: EventLog) -> list[Difference]:
    found: list[Difference] = []
    for number in sorted(epoch.lines):
        taken, line = epoch.lines[number], log.by_number.get(number)
        where = {"epoch": epoch.number, "line": number, "run_id": taken.run_id, "event_id": taken.event_id}
        if number > log.line_count:
            if log.trouble:
                return found  # not read so far, which is not the end of it
            what = f"the log ends at line {log.line_count}, history has lines up to {epoch.head}"
            return [*found, Difference(**where, what=what, history=taken.h, log=None)]
        if line is None:
            continue
        if taken.h is not None and line.shown_hash is not None and taken.h != line.shown_hash:
            told = getattr(taken.digest, "name", "no event")
            what = f"the line was {told!r} when it was observed and is {line.name!r} now"
            if told == line.name:
                what = f"the line ({told}) is not the one that was observed"
            found.append(Difference(**where, what=what, history=taken.h, log=line.shown_hash))
    if epoch.head > log.line_count and not log.trouble:
        what = f"the log ends at line {log.line_count}, the cursor stands at line {epoch.head}"
        found.append(Difference(epoch=epoch.number, line=log.line_count + 1, what=what))
    return found


def _unshown(epoch: Epoch, log: EventLog) -> list[int]:
    """The lines that history has the hash of and that were passed over when the log was read."""
    read = (taken for number, taken in sorted(epoch.lines.items()) if number <= log.line_count and taken.h is not None)
    return [taken.line for taken in read if not (line := log.by_number.get(taken.line)) or line.hash is None]


def _sentence(report: VerifyReport, epoch: Epoch) -> str:
    head = f"epoch {epoch.number}, line {epoch.head}, chain {(epoch.chain or 'none')[:16]}"
    if report.differences:
        first = report.differences[0]
        return f"They differ: epoch {first.epoch}, line {first.line}: {first.what}."
    if report.log is None:
        return f"Histories agree with themselves ({head}); the log was not read, so nothing was compared with it."
    if report.log.trouble:
        return f"Not decided: the log could not be read to its end ({report.log.trouble}); histories: {head}."
    if report.unshown:
        return f"Not decided: the log does not show line {report.unshown[0]}, which was observed; histories: {head}."
    new = f"; {report.new_lines} new lines were not observed yet" if report.new_lines else ""
    before = "; the log was replaced by another before" if epoch.number > 1 else ""
    since = f"; no chain proves it from line {epoch.unverifiable_from} on" if epoch.unverifiable_from else ""
    return f"Agreed: {head}, in the log, in history and in what the workflow believes{since}{new}{before}."

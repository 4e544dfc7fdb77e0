"""What `doctor` finds: one finding a line, each with its fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.exit_codes import ExitCode
from cli.terminal import clean


class Level(StrEnum):
    """How bad a finding is. A warning never changes the exit code."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` says what to do; `exit_code` is what a failure means for the process."""

    level: Level
    about: str
    detail: str
    fix: str = ""
    exit_code: ExitCode = ExitCode.DONE


def ok(about: str, detail: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, about, detail)


def warn(about: str, detail: str, fix: str = "") -> Finding:
    """Works, but look at it."""
    return Finding(Level.WARN, about, detail, fix)


def fail(about: str, detail: str, fix: str, exit_code: ExitCode) -> Finding:
    """Does not work."""
    return Finding(Level.FAIL, about, detail, fix, exit_code)


def verdict(findings: Iterable[Finding]) -> ExitCode:
    """The exit code of the first failure, because later ones often follow from it; 0 without one."""
    return next((finding.exit_code for finding in findings if finding.level is Level.FAIL), ExitCode.DONE)


_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def findings_table(findings: Iterable[Finding]) -> Table:
    """The findings, each fix under its finding."""
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, _STYLES[finding.level]), finding.about, Text(clean(finding.detail)))
        if finding.fix:
            table.add_row("", "", Text(f"fix: {clean(finding.fix)}", "bold"))
    return table


def finding_json(finding: Finding) -> dict[str, Any]:
    """One entry of `doctor -o json`."""
    return {
        "level": finding.level.value,
        "about": finding.about,
        "detail": finding.detail,
        "fix": finding.fix or None,
    }

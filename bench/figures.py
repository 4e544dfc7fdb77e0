"""Figures and what goes around them: names, units, goals, and how they are written down."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number. `goal` says what it should be, as a bound; None where there is none."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.at_most is not None:
            return f"at most {shown(self.at_most)}"
        return "" if self.at_least is None else f"at least {shown(self.at_least)}"


def shown(value: float) -> str:
    """A number with three significant digits, whole where it is large."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of `values` does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as they are kept."""
    return [{**asdict(figure), "reached": figure.reached} for figure in figures]


def as_table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    rows = ["| what | measured | goal | |", "|---|---|---|---|"]
    marks = {True: "reached", False: "**missed**", None: ""}
    for figure in figures:
        said = "; ".join(text for text in (marks[figure.reached], figure.note) if text)
        rows.append(f"| {figure.name} | {shown(figure.value)} {figure.unit} | {figure.goal} | {said} |")
    return "\n".join(rows) + "\n"

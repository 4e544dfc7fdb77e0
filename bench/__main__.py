"""Run the benches one after another, print a table, and write the figures down.

python -m bench [--only NAME]... [--tiny] [--report FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import backlog, freshness, idle, long_log, outage
from bench.figures import Figure, as_json, as_table, machine
from bench.stage import TINY, Size, Stage
from tests.harness import House

BENCHES: dict[str, Callable[[Stage], Awaitable[list[Figure]]]] = {
    "backlog": backlog.measure,
    "freshness": freshness.measure,
    "idle": idle.measure,
    "long-log": long_log.measure,
    "outage": outage.measure,
}


async def run(names: Sequence[str], size: Size) -> list[Figure]:
    """Measure what `names` say; every bench has a folder, none shares a sprite with another."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="ops-manager-bench-") as folder:
        async with House.open(Path(folder)) as house:
            for name in names:
                began = time.monotonic()
                print(f"{name} ...", flush=True)
                figures += await BENCHES[name](Stage(house, Path(folder) / name, size))
                print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return figures


def main() -> None:
    """Read the command line, run, and write `FILE` (JSON) and the table beside it (.md)."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=list(BENCHES), help="this bench; may be repeated")
    parser.add_argument("--tiny", action="store_true", help="as little as shows that the benches run")
    parser.add_argument("--report", type=Path, default=Path("bench-report.json"), help="default: bench-report.json")
    given = parser.parse_args()
    on = machine()
    figures = asyncio.run(run(given.only or list(BENCHES), TINY if given.tiny else Size()))
    given.report.write_text(json.dumps({"machine": on, "figures": as_json(figures)}, indent=2) + "\n")
    table = as_table(figures)
    given.report.with_suffix(".md").write_text(table)
    print(f"\n{table}\nwritten to {given.report} and {given.report.with_suffix('.md')}")


if __name__ == "__main__":
    main()

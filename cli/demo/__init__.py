"""`ops-manager demo`: the main job, once, on real processes; only the runtime is a stand-in."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from cli import terminal
from cli.demo.acts import ACTS, AT_WORK_AGAIN, Act
from cli.demo.programme import Play
from cli.demo.report import ActMissing, Report
from cli.demo.stage import ENDING_SIGNALS, Stage
from cli.exit_codes import ExitCode

_FEED_BEHIND_S = 1.5
"""The feed looks once a second; an act's last lines are to stand above the next act's title."""
REPORT_FILE = Path("demo-report.json")


@click.command()
@click.option("--keep", is_flag=True, help="Stay up at the end, with a loop that waits for approval.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=REPORT_FILE,
    show_default=True,
    metavar="FILE",
    help="Where the evidence of every act is written.",
)
def demo(keep: bool, report_file: Path) -> ExitCode:
    """Show the main job on an embedded Temporal, with a stand-in for the runtime, in under two minutes.

    Everything runs in a temporary folder, on loopback, and is ended at the end, also by Ctrl-C.
    """
    acts = [*ACTS[:-1], AT_WORK_AGAIN] if keep else ACTS
    report = Report(report_file, [act.name for act in acts])
    with tempfile.TemporaryDirectory(prefix="ops-manager-demo-") as folder, Stage(Path(folder)) as stage:
        code = asyncio.run(_until_stopped(_perform(stage, acts, report, keep=keep)))
    terminal.say(f"{'Interrupted. ' if code is ExitCode.INTERRUPTED else ''}Everything the demo had started is ended.")
    return code


async def _until_stopped(performance: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    """The performance's code; a signal that asks to end makes it leave in order."""
    performing = asyncio.ensure_future(performance)
    loop = asyncio.get_running_loop()
    for number in ENDING_SIGNALS:
        # What somebody has chosen to ignore (nohup, say) stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, performing.cancel)
    try:
        return await performing
    except asyncio.CancelledError:
        return ExitCode.INTERRUPTED


async def _perform(stage: Stage, acts: Sequence[Act], report: Report, *, keep: bool) -> ExitCode:
    terminal.data(
        "This demo runs a real Temporal, worker and sprite service. The runtime is a stand-in: no agents work."
    )
    try:
        async with Play.opened(stage) as play:
            for number, act in enumerate(acts, start=1):
                terminal.data(f"\n── {number}/{len(acts)} {act.title} " + "─" * max(0, 70 - len(act.title)))
                with report.entry(act.name, act.title) as entry:
                    entry.evidence = await act.perform(play)
                await asyncio.sleep(_FEED_BEHIND_S)
            terminal.data(f"\n{len(acts)} acts, each with its evidence in {report.file}, in {report.seconds:.0f} s.")
            if keep:
                await _stay(play)
    except ActMissing as missing:
        terminal.warn(f"MISSING: {missing}")
        for line in stage.last_words():
            terminal.say(line)
        return ExitCode.UNEXPECTED
    return ExitCode.DONE


async def _stay(play: Play) -> None:
    """Wait to be told to end, which is the way this demo ends."""
    terminal.data("\nThe loop waits for approval. Approve it from another shell, in this folder:\n")
    terminal.data(f"  {play.approve_by_signal()}\n")
    terminal.data(
        f"See what became of it, and let a run consume the approval:\n\n  {play.ops_command('status', play.loop)}"
    )
    terminal.data(f"  {play.stage.superloop_command()}\n\nUI: {play.ui}\nCtrl-C ends everything.")
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()

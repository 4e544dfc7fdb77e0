"""`ops-manager sprite chaos-proxy`: a proxy before a service, for drills."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import urlsplit

import click

from cli.serving import Stopped, unless_stopped
from cli.terminal import say
from contract.clock import format_utc
from sprite.drill import ChaosProxy, Fault, Setting, seeded_steps
from worker.workers import stop_on_signals


@click.command("chaos-proxy")
@click.option("--to", required=True, metavar="URL", help="The sprite service that is passed on to.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option(
    "--fault", type=click.Choice([fault.value for fault in Fault]), help="What goes wrong, from the start to the end."
)
@click.option("--line", default=1, show_default=True, type=click.IntRange(min=1), help="For edit-line and drop-line.")
@click.option("--seed", type=int, help="Draw one passing fault after another; the same seed draws the same ones.")
def chaos_proxy(to: str, port: int, fault: str | None, line: int, seed: int | None) -> None:
    """For drills: stand before a sprite service, and answer as bad networks and machines do. Listens on loopback only.

    Without --fault and --seed it passes on what comes. With edit-line and drop-line it shows a log that is not the
    sprite's; every other fault passes and must leave nothing behind.
    """
    if fault is not None and seed is not None:
        raise click.UsageError("--fault and --seed exclude each other")
    if urlsplit(to).scheme not in ("http", "https") or not urlsplit(to).hostname:
        raise click.UsageError(f"--to must be an http or https URL, not {to!r}")
    try:
        asyncio.run(_stand(to, port, Setting(Fault(fault) if fault else None, line=line), seed))
    except OSError as error:
        raise click.ClickException(f"cannot listen on 127.0.0.1 port {port}: {error.strerror or error}") from None


async def _stand(to: str, port: int, setting: Setting, seed: int | None) -> None:
    stop = stop_on_signals()
    async with ChaosProxy.before(to, port=port, setting=setting) as proxy:
        say(f"listening on {proxy.url}, passing on to {to}; Ctrl-C ends it")
        _tell(setting)
        try:
            await unless_stopped(_play(proxy, seed) if seed is not None else asyncio.Event().wait(), stop)
        except Stopped:
            told = ", ".join(f"{fault.value} {count}" for fault, count in sorted(proxy.struck.items()))
            say(f"exchanges struck: {told or 'none'}")


async def _play(proxy: ChaosProxy, seed: int) -> None:
    for step in seeded_steps(seed):
        await proxy.set(step.setting)
        _tell(step.setting, f" for {step.seconds:g} s")
        await asyncio.sleep(step.seconds)


def _tell(setting: Setting, more: str = "") -> None:
    say(f"{format_utc(datetime.now(UTC))} {setting.fault.value if setting.fault else 'no fault'}{more}")

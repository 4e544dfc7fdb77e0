"""From the loop that was named to its histories and its event log."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cli import terminal
from cli.errors import CommandError, NotFound, UsageProblem
from cli.event_log import read_log
from cli.names import LoopName, parse_loop_name
from cli.resolve import resolve
from cli.session import Connection, Session, with_session
from contract.archives import ARCHIVES_FOLDER
from contract.observation import Target, Transport
from contract.status import StatusReport
from incidents.archive import ArchiveInvalid, Incident, manifest_of, read, without
from incidents.collect import Collected, Span, collect, kept_runs
from incidents.history import HistoryInvalid, Run, chains
from incidents.log import EventLog
from incidents.states import last_state
from incidents.verify import VerifyReport, verify
from worker.local import known_secrets
from workflows.state import RULES_VERSION


@dataclass(frozen=True)
class LogOptions:
    """How the log is to be read, where the options say so: by which transport, and from where."""

    transport: Transport | None = None
    repo: Path | None = None
    token: str | None = None


async def histories(session: Session, name: LoopName, span: Span | None = None) -> Collected:
    """The runs of the loop that was named, whether it is supervised now or was; raises NotFound when there are none."""
    archives = session.settings.data_folder / ARCHIVES_FOLDER
    wanted = name.workflow_id or await _workflow_id(session, name, archives)
    collected = await collect(session.client, wanted, archives, span)
    if not collected.runs:
        which = "no run in that time" if span and (span.since or span.until) else "no run"
        raise NotFound(f"{name}: {which} is known, neither to Temporal nor in {archives}")
    _check_supervisors(name, collected.runs)
    return collected


def _check_supervisors(name: LoopName, runs: Sequence[Run]) -> None:
    try:
        for run in runs:
            run.carried  # noqa: B018 - read for what it raises
    except HistoryInvalid as error:
        raise UsageProblem(f"{name}: {error}, so there is nothing to say of it. Is the name right?") from None


async def _workflow_id(session: Session, name: LoopName, archives: Path) -> str:
    try:
        return (await resolve(session, name)).workflow_id
    except NotFound:
        found = _kept_ids(archives, name.loop_id)
        if len(found) == 1:
            return found[0]
        raise


def _kept_ids(archives: Path, loop_id: str) -> list[str]:
    sprites = [path.name for path in archives.iterdir()] if archives.is_dir() else []
    ids = [f"loop:{sprite}:{loop_id}" for sprite in sprites]
    return [supervisor for supervisor in ids if kept_runs(archives, supervisor)]


def target_of(runs: Sequence[Run], report: StatusReport | None, options: LogOptions) -> Target:
    """Where the loop's log is: as its supervisor was told and has learned, and as the options say."""
    target = runs[-1].start.target
    known = {"sprite_id": target.sprite_id, "repo_path": target.repo_path, "token": target.token}
    if report is not None:
        known |= {"sprite_id": report.sprite_id, "repo_path": report.repo_path}
    if options.repo is not None:
        known["repo_path"] = str(options.repo.expanduser().resolve())
    if options.token is not None:
        known["token"] = options.token
    return Target.model_validate({**target.model_dump(), **known})


async def log_of(target: Target, options: LogOptions) -> EventLog:
    """The log through the transport that was asked for, by default the service where there is one.

    Raises TransportProblem, AuthProblem and whatever else reading it raises.
    """
    by_default = Transport.SPRITE_SERVICE if target.service_url else Transport.LOCAL
    return await read_log(target, options.transport or by_default)


async def log_if_reachable(target: Target, options: LogOptions) -> tuple[EventLog | None, str]:
    """The log through whatever transport reaches it, or None and why it is not there."""
    wanted = [options.transport] if options.transport else _ways(target)
    reasons = []
    for transport in wanted:
        try:
            return await read_log(target, transport), ""
        except CommandError as error:
            reasons.append(f"{transport.value}: {error}")
    return None, "; ".join(reasons) or "no way to the sprite is known"


def _ways(target: Target) -> list[Transport]:
    service = [Transport.SPRITE_SERVICE] if target.service_url else []
    here = target.repo_path is not None and (Path(target.repo_path) / ".superloop").is_dir()
    return [*service, Transport.LOCAL] if here else service


def load(connection: Connection, what: str) -> Incident:
    """The incident in the archive `what`, for which no server is needed, or that of the loop of this name.

    Raises UsageProblem for a file that is no archive, IdentifierInvalid for what can be neither.
    """
    path = Path(what)
    if path.is_file():
        try:
            return read(path)
        except ArchiveInvalid as error:
            raise UsageProblem(terminal.clean(error)) from None
        except OSError as error:
            raise UsageProblem(f"{what} cannot be read: {error.strerror}") from None
    if path.suffix == ".zip":
        raise UsageProblem(f"there is no file {what}")
    name = parse_loop_name(what)
    return with_session(connection, lambda session: incident_of(session, name, Span(), LogOptions()))


async def incident_of(session: Session, name: LoopName, span: Span, options: LogOptions) -> Incident:
    """Everything there is about a loop's supervision, with the log if the sprite can be reached, and no secrets.

    An agent may have printed a token into its log, and what is made of this is handed on: archive, page, text.
    """
    collected = await histories(session, name, span)
    runs = collected.runs
    grouped = chains(runs)
    last = await last_state(grouped[-1])
    log, log_missing = await log_if_reachable(target_of(runs, last.report if last else None, options), options)
    manifest = manifest_of(
        collected, span=span, made_at=datetime.now(UTC), versions=_versions(), log=log, no_log=log_missing
    )
    verified = [await _verified(chain, log, last.report.sprite_id if last else None) for chain in grouped]
    return without(Incident(manifest, runs, log, verified), _secrets(session, runs))


def _secrets(session: Session, runs: Sequence[Run]) -> list[str]:
    starts = [run.start for run in runs]
    hooks = [start.webhook for start in starts if start.webhook is not None]
    named = {ref for start in starts for ref in (start.target.token, start.target.edge_auth)}
    named |= {ref for hook in hooks for ref in (hook.url, hook.secret)}
    return known_secrets(session.settings, [ref for ref in named if ref])


async def _verified(chain: Sequence[Run], log: EventLog | None, sprite_id: str | None) -> VerifyReport:
    state = await last_state(chain)
    # Under the same name there may have been another sprite before, with another log.
    same = state is None or state.report.sprite_id in (None, sprite_id)
    return verify(chain, log=log if same else None, belief=state.report.cursor if state else None)


def _versions() -> dict[str, str]:
    return {
        "ops-manager": version("superloop-ops-manager"),
        "temporalio": version("temporalio"),
        "python": platform.python_version(),
        "rules": str(RULES_VERSION),
    }

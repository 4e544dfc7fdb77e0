"""Can a sprite be reached: name, connection, TLS, token, schema, loops, clock; and the runtime on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from activities.exchange import Answer
from activities.targets import shown_url
from cli import service
from cli.checks import Finding, Level, fail, ok, warn
from cli.errors import AuthProblem, CommandError, TransportProblem
from cli.exit_codes import ExitCode
from cli.places import repo_doubt
from cli.service import ask, schema_version
from cli.times import span
from contract.envelopes import SCHEMA_VERSION
from contract.observation import Target
from sprite.control import BINARY_VARIABLE, OBSERVED_VERSION, binary_version, find_binary
from sprite.errors import SpriteError
from sprite.reader import SpriteReader
from worker.errors import SettingsInvalid

SERVE = "ops-manager sprite serve --repo PATH --token-file FILE"
SKEW_OK_S = 5.0
"""The Date header has a resolution of a second and the answer takes its time."""
CERTIFICATE_WARN_DAYS = 14
_CONNECT_S = 3.0


async def service_findings(target: Target, supervised: set[str]) -> list[Finding]:
    """Everything about the service of `target`, in the order in which a request needs it; stops where no more can work.

    `supervised` are the ids of the loops of this sprite that have a supervisor.
    """
    parts = urlsplit(target.service_url or "")
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    found = [await _name(host)]
    if found[-1].level is not Level.FAIL:
        found.append(await _connection(host, port, parts.scheme == "https", target))
    if found[-1].level is not Level.FAIL:
        found += await _answers(target, supervised)
    return found


async def _name(host: str) -> Finding:
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        return fail("DNS", f"{host} cannot be resolved: {error.strerror}", "check --service-url", ExitCode.TRANSPORT)
    return ok("DNS", f"{host} resolves")


async def _connection(host: str, port: int, tls: bool, target: Target) -> Finding:
    about = "TLS" if tls else "connection"
    where = f"{host}:{port}"
    context = ssl.create_default_context() if tls else None
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        return fail(
            about, f"{where}: {error.verify_message}", "renew the certificate or trust its CA", ExitCode.TRANSPORT
        )
    except ssl.SSLError:
        return fail(about, f"{where} does not speak TLS", "try --service-url http://...", ExitCode.TRANSPORT)
    except OSError as error:  # a TimeoutError is one, and has no number
        reason = os.strerror(error.errno).lower() if error.errno else f"no connection within {_CONNECT_S:g} s"
        return fail(about, f"{where}: {reason}", "is the service running? In the sprite: " + SERVE, ExitCode.TRANSPORT)
    certificate = writer.get_extra_info("peercert") if tls else None
    writer.close()
    if certificate:
        return _certificate(where, certificate["notAfter"], datetime.now(UTC))
    if target.token and not _is_loopback(host):
        return warn(about, f"{where} without TLS: the token travels in the clear", "use an https URL or a tunnel")
    return ok(about, f"{where} accepts connections")


def _certificate(where: str, not_after: str, now: datetime) -> Finding:
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC)
    left = ends - now
    if left.days < CERTIFICATE_WARN_DAYS:
        return warn("TLS", f"{where}: the certificate ends {ends:%Y-%m-%d}, in {left.days} days", "renew it")
    return ok("TLS", f"{where}, certificate until {ends:%Y-%m-%d}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def _answers(target: Target, supervised: set[str]) -> list[Finding]:
    try:
        health = await ask(target, "/healthz")
    except SettingsInvalid as error:
        return [fail("proxy", str(error), "", ExitCode.USAGE)]
    except AuthProblem as error:
        fix = "set it where the worker runs (and here, for this check)"
        return [fail("token", str(error), fix, ExitCode.AUTH)]
    except TransportProblem as error:
        return [fail("service", str(error), "is this the service's URL?", ExitCode.TRANSPORT)]
    if health.http_status != 200:
        return [_unhealthy(target, health)]
    found = [ok("service", f"{shown_url(target)} is healthy, {health.elapsed_s * 1000:.0f} ms")]
    found += _skew(health, datetime.now(UTC))
    return [*found, *await _loops(target, supervised), *await _ready(target)]


def _unhealthy(target: Target, answer: Answer) -> Finding:
    if answer.http_status in (401, 403):
        return fail("token", service.refused(target, answer), "check --token and --edge-auth", ExitCode.AUTH)
    detail = f"{shown_url(target)}/healthz answered {answer.http_status}"
    return fail("service", detail, "is this the service's URL?", ExitCode.TRANSPORT)


def _skew(answer: Answer, now: datetime) -> list[Finding]:
    """The service's clock against this one; ages are computed in the sprite, so a skew only shifts what is shown."""
    shown = _moment(answer.date)
    if shown is None:
        return []
    ahead = (shown - now).total_seconds() + answer.elapsed_s / 2
    if abs(ahead) <= SKEW_OK_S:
        return [ok("clock", "the sprite's agrees with this machine's")]
    word = "ahead of" if ahead > 0 else "behind"
    detail = f"the sprite's is {span(abs(ahead))} {word} this machine's"
    return [warn("clock", detail, "set it; until then its event times are shifted against ours")]


def _moment(date: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date or "")
    except (ValueError, TypeError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


async def _loops(target: Target, supervised: set[str]) -> list[Finding]:
    try:
        found = await service.loops(target)
    except CommandError as error:
        about = "token" if isinstance(error, AuthProblem) else "schema"
        return [fail(about, str(error), "check --token REF" if about == "token" else "update it", error.exit_code)]
    if found is None:
        return await _one_loop(target)
    names = [loop.loop_id for loop in found]
    return [
        ok("token", "accepted"),
        ok("schema", f"{SCHEMA_VERSION}, with this project's additions"),
        _known(names, supervised),
    ]


def _known(names: list[str], supervised: set[str]) -> Finding:
    gone = sorted(supervised - set(names))
    if gone:
        return warn("known loops", f"supervised, but not in the sprite: {', '.join(gone)}", "ops-manager release them")
    listed = [f"{name} (supervised)" if name in supervised else name for name in names]
    return ok("known loops", ", ".join(listed) or "none yet")


async def _one_loop(target: Target) -> list[Finding]:
    """A service of the base contract does not list its loops: ask for the one that is meant."""
    if target.loop_id == "-":
        fix = "name a loop: ops-manager doctor LOOP"
        return [warn("known loops", "this service does not list its loops, so token and schema were not tried", fix)]
    try:
        answer = await ask(target, "/ops/snapshot", {"loopId": target.loop_id})
    except TransportProblem as error:
        return [fail("service", str(error), "look at its log", ExitCode.TRANSPORT)]
    if answer.http_status in (401, 403):
        return [fail("token", service.refused(target, answer), "check --token REF", ExitCode.AUTH)]
    if answer.http_status != 200:
        said = answer.refusal.message if answer.refusal else "no reason given"
        return [ok("token", "accepted"), warn("known loops", f"{target.loop_id}: {answer.http_status}, {said}")]
    if schema_version(answer) != SCHEMA_VERSION:
        detail = f"the service speaks {str(schema_version(answer))[:40]!r}, this manager {SCHEMA_VERSION!r} only"
        return [ok("token", "accepted"), fail("schema", detail, "update the older side", ExitCode.TRANSPORT)]
    return [ok("token", "accepted"), ok("schema", SCHEMA_VERSION), ok("known loops", target.loop_id)]


async def _ready(target: Target) -> list[Finding]:
    """Ours says whether the runtime's program is there; a service of the base contract has no such answer."""
    try:
        answer = await ask(target, "/readyz")
    except CommandError:
        return []
    if answer.http_status == 200:
        return [ok("runtime", "the sprite can start it")]
    if answer.http_status == 503 and answer.refusal:
        return [fail("runtime", answer.refusal.message, "mend it in the sprite", ExitCode.TRANSPORT)]
    return []


async def machine_findings(repo: Path | None) -> list[Finding]:
    """The runtime's program and a repo on this machine; needed only where a local transport is served."""
    findings = [await asyncio.to_thread(_binary, repo is not None)]
    if repo:
        findings.append(await asyncio.to_thread(_repo, repo))
    return findings


def _binary(needed: bool) -> Finding:
    try:
        program = find_binary()
        version = binary_version(program)
    except SpriteError as error:
        if needed:
            return fail("runtime here", error.message, f"set {BINARY_VARIABLE}", ExitCode.USAGE)
        return ok("runtime here", "none, and none is needed unless a repo is served from this machine")
    if not version.startswith(OBSERVED_VERSION):
        detail = f"{program} is {version}; this manager knows {OBSERVED_VERSION}"
        return warn("runtime here", detail, "is it superloop.sh? Then compare its changelog")
    return ok("runtime here", f"{program}, {version}")


def _repo(repo: Path) -> Finding:
    try:
        loops = SpriteReader(repo).loops()
    except SpriteError as error:
        return fail("repo", error.message, "check --repo", ExitCode.USAGE)
    doubt = repo_doubt(repo)
    if doubt:
        return warn("repo", doubt, "check --repo")
    return ok("repo", f"{repo}: {', '.join(loop['loopId'] for loop in loops) or 'no loop yet'}")

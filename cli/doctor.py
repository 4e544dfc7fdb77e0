"""`ops-manager doctor`: what works, what does not, and how to mend it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import click

from cli import paste, terminal
from cli.checks import Finding, fail, finding_json, findings_table, verdict, warn
from cli.doctor_sprite import machine_findings, service_findings
from cli.doctor_temporal import temporal_findings
from cli.errors import NotFound
from cli.exit_codes import ExitCode
from cli.names import LOOP, LoopName
from cli.places import place
from cli.resolve import resolve
from cli.session import Connection, Session, connection_options, open_session
from cli.starting import known_start
from cli.supervisors import running_supervisors
from cli.webhook import webhook_findings, webhook_options, webhook_target
from contract.notices import WebhookTarget
from contract.observation import Target
from contract.supervision import SupervisorStart
from worker.errors import WorkerError


@click.command()
@click.argument("loop", type=LOOP, required=False)
@click.option("--service-url", metavar="URL", help="Check this sprite service, too.")
@click.option("--token", metavar="REF", help="Its token by reference: env:NAME or file:PATH.")
@click.option("--edge-auth", metavar="REF", help="What a private sprite's URL wants in Authorization, likewise.")
@click.option("--sprite", metavar="NAME", help="A sprite of the settings file, or a name for --service-url.")
@click.option("--repo", metavar="PATH", type=click.Path(path_type=Path), help="Check this repo, too.")
@webhook_options
@click.option("--send-test-notice", is_flag=True, help="Send the receiver of notices one that says it is a test.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connection_options
def doctor(
    connection: Connection,
    loop: LoopName | None,
    service_url: str | None,
    token: str | None,
    edge_auth: str | None,
    sprite: str | None,
    repo: Path | None,
    webhook: str | None,
    webhook_secret: str | None,
    send_test_notice: bool,
    output: str,
) -> ExitCode:
    """Check what supervision needs; with LOOP, also how that loop is reached.

    Secrets are read here for the check; supervision reads them where the worker runs.
    """
    settings = connection.settings()
    told = webhook_target(settings, webhook, webhook_secret)
    where = place(
        settings,
        repo=repo,
        service_url=service_url,
        token=token,
        edge_auth=edge_auth,
        sprite=sprite,
        loops=(),
    )
    target = where.target("-") if where and where.service_url else None
    found = asyncio.run(_findings(connection, loop, target, where.repo if where else None, told, send_test_notice))
    findings = [
        dataclasses.replace(
            finding, detail=paste.localized(finding.detail), fix=paste.localized(finding.fix, ours=connection.flags())
        )
        for finding in found
    ]
    if output == "json":
        terminal.data(json.dumps([finding_json(finding) for finding in findings], indent=2))
    else:
        terminal.show(findings_table(findings))
    return verdict(findings)


async def _findings(
    connection: Connection,
    loop: LoopName | None,
    target: Target | None,
    repo: Path | None,
    webhook: WebhookTarget | None,
    send_test: bool,
) -> list[Finding]:
    findings: list[Finding] = []
    supervised: set[str] = set()
    try:
        async with open_session(connection) as session:
            findings += await temporal_findings(session)
            if loop:
                start = await _start_of(session, loop)
                target, webhook = start.target, start.webhook or webhook
            if target:
                rows = await running_supervisors(session.client)
                supervised = {row.loop_id for row in rows if row.sprite == target.sprite}
    except WorkerError as error:
        # Its message says what to do.
        findings.append(fail("Temporal", str(error), "", ExitCode(error.exit_code)))
    if target and target.service_url:
        findings += await service_findings(target, supervised)
    if webhook:
        findings += await webhook_findings(webhook, send_test=send_test)
    elif send_test:
        findings.append(warn("webhook", "there is none to send a test notice to", "name one: --webhook REF"))
    return findings + await machine_findings(repo)


async def _start_of(session: Session, loop: LoopName) -> SupervisorStart:
    row = await resolve(session, loop)
    start = await known_start(session.client, row.workflow_id)
    if start is None:
        raise NotFound(f"How {row.name} is reached cannot be read from its history: was it started by hand?")
    return start

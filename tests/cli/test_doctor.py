"""What `doctor` makes of what it finds; the real thing is in test_real_loop.py."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest

from activities.exchange import Answer
from cli.checks import Finding, Level, fail, finding_json, findings_table, ok, verdict, warn
from cli.doctor_sprite import _certificate, _known, _skew, machine_findings, service_findings
from cli.doctor_temporal import _skew as temporal_skew
from cli.exit_codes import ExitCode
from cli.terminal import text_of
from contract.observation import Target
from tests.cli.canned import start_canned
from tests.cli.conftest import QUEUE, Place
from tests.cli.ops import ROOT
from tests.cli.reports import report

NOW = datetime(2026, 11, 22, 3, 12, 7, tzinfo=UTC)


def test_first_failure_decides_the_exit_code_and_warnings_never_do() -> None:
    broken = [
        fail("Temporal", "gone", "start it", ExitCode.UNREACHABLE),
        fail("token", "refused", "mend it", ExitCode.AUTH),
    ]
    assert verdict([ok("a", "b"), warn("clock", "off", "set it")]) is ExitCode.DONE
    assert verdict([warn("clock", "off"), *broken]) is ExitCode.UNREACHABLE
    assert verdict(broken[1:]) is ExitCode.AUTH


def test_every_failure_is_printed_with_its_fix() -> None:
    findings = [ok("Temporal", "answers"), fail("token", "refused [red]x[/]", "check it", ExitCode.AUTH)]
    lines = text_of(findings_table(findings), width=80, coloured=False).splitlines()
    assert lines[1].split(maxsplit=2) == ["fail", "token", "refused [red]x[/]"]
    assert lines[2].strip() == "fix: check it"
    assert finding_json(findings[0]) == {"level": "ok", "about": "Temporal", "detail": "answers", "fix": None}


def answer(skew_s: float) -> Answer:
    date = format_datetime(NOW + timedelta(seconds=skew_s), usegmt=True)
    return Answer(200, {}, date=date, elapsed_s=0.02)


@pytest.mark.parametrize(
    ("skew_s", "level", "words"),
    [
        (0, Level.OK, "agrees"),
        (-4, Level.OK, "agrees"),
        (90, Level.WARN, "ahead of"),
        (-3_605, Level.WARN, "1 h behind"),
    ],
)
def test_clock_of_the_sprite_is_compared_with_ours(skew_s: float, level: Level, words: str) -> None:
    (finding,) = _skew(answer(skew_s), NOW)
    assert (finding.level, words in finding.detail) == (level, True), finding


def test_service_that_shows_no_time_is_not_judged_by_it() -> None:
    for shown in (None, "", "yesterday"):
        assert _skew(Answer(200, {}, date=shown), NOW) == []


def test_poll_from_the_future_shows_a_clock_that_is_behind() -> None:
    assert temporal_skew(NOW - timedelta(hours=1), NOW) == []
    (finding,) = temporal_skew(NOW + timedelta(minutes=3), NOW)
    assert finding.level is Level.WARN
    assert "3 min behind" in finding.detail


@pytest.mark.parametrize(
    ("ends", "level"), [("Dec 25 00:00:00 2027 GMT", Level.OK), ("Nov 29 00:00:00 2026 GMT", Level.WARN)]
)
def test_certificate_that_ends_soon_is_a_warning(ends: str, level: Level) -> None:
    assert _certificate("acme:443", ends, NOW).level is level


def test_loop_that_is_supervised_and_gone_is_named() -> None:
    assert _known(["demo", "other"], {"demo"}).detail == "demo (supervised), other"
    finding = _known(["other"], {"demo"})
    assert (finding.level, "demo" in finding.detail) == (Level.WARN, True)


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.about: finding.level for finding in findings}


async def test_name_that_does_not_resolve_ends_the_checks_of_a_service() -> None:
    found = await service_findings(Target(sprite="x", loop_id="-", service_url="http://no-such-host.invalid"), set())
    assert [(finding.about, finding.level, finding.exit_code) for finding in found] == [
        ("DNS", Level.FAIL, ExitCode.TRANSPORT)
    ]


async def test_runtime_is_needed_only_where_a_repo_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUPERLOOP_BIN", "/no/such/superloop.sh")
    monkeypatch.setenv("OPS_MANAGER_STATE_DIR", str(tmp_path))
    assert levels(await machine_findings(None))["runtime here"] is Level.OK
    found = levels(await machine_findings(Path("/no/such/repo")))
    assert found == {"runtime here": Level.FAIL, "repo": Level.FAIL}


async def test_namespace_without_workers_fails_with_the_command_that_starts_one(place: Place) -> None:
    done = await place.ops("doctor")
    assert done.code == 9, done
    for queue in ("canned", "canned-observe", "canned-control", "canned-notices"):
        assert f"no worker serves {queue}: nobody polled in the last 5 minutes" in done.out
    assert "ops-manager worker" in done.out


async def test_worker_that_has_just_ended_is_no_worker_although_its_poll_is_remembered(place: Place) -> None:
    async with place.worker():
        await start_canned(place.client, QUEUE, report())
        # The canned worker serves one queue of four; that one is fine while it lives.
        assert "ok    supervision   a worker polls canned\n" in (await place.ops("doctor")).out
    done = await place.ops("doctor")
    assert done.code == 9, done
    assert "fail  supervision   no worker serves canned: the last poll was at " in done.out
    begun = await place.ops("supervise", "--service-url", "http://127.0.0.1:1", "--loop", "other")
    assert begun.code == 9, begun
    assert "NO WORKER for canned" in begun.err


async def test_plain_http_asked_for_tls_is_told_as_that() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await service_findings(Target(sprite="x", loop_id="-", service_url=f"https://127.0.0.1:{port}"), set())
    assert [(finding.about, finding.level) for finding in found[1:]] == [("TLS", Level.FAIL)]
    assert "does not speak TLS" in found[1].detail


async def test_short_retention_is_a_warning_with_the_command_that_mends_it(place: Place) -> None:
    short = Duration()
    short.FromTimedelta(timedelta(days=2))
    await place.client.workflow_service.update_namespace(
        UpdateNamespaceRequest(
            namespace=place.client.namespace, config=NamespaceConfig(workflow_execution_retention_ttl=short)
        )
    )
    done = await place.ops("doctor")
    assert "warn  retention" in done.out
    fix = next(line.split("fix: ")[1] for line in done.out.splitlines() if "namespace update" in line)
    shell = await asyncio.create_subprocess_shell(fix, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    assert await shell.wait() == 0, fix
    assert "ok    retention     closed runs are kept for 30 d" in (await place.ops("doctor")).out

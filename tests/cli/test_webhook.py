"""A webhook on the command line: references only, settings as the default, and what `doctor` and `status` say of it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli.errors import UsageProblem
from cli.render import status_card
from cli.starting import known_start
from cli.terminal import text_of
from cli.webhook import webhook_flags, webhook_target
from contract.errors import SecretReferenceInvalid
from contract.notices import WebhookTarget
from contract.status import Attention, NoticesReport, OpenCondition, StatusReport
from tests.cli.conftest import Place
from tests.cli.reports import NOW, report, waiting
from tests.receiver import SECRETS, Receiver, receiving
from worker.settings import Settings, WebhookSettings, load_settings

ON_THIS_MACHINE = ("--service-url", "http://127.0.0.1:1", "--sprite", "acme", "--loop", "demo")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path / "receiver") as started:
        yield started


def test_options_come_before_settings_and_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    settings = Settings(webhook=WebhookSettings(url="env:A", secret="file:s"))
    assert webhook_target(Settings(), None, None) is None
    assert webhook_target(settings, None, None) == WebhookTarget(url="env:A", secret="file:/s")
    assert webhook_target(settings, "file:u", None) == WebhookTarget(url="file:/u")
    assert webhook_target(settings, None, "env:B") == WebhookTarget(url="env:A", secret="env:B")
    assert webhook_flags(WebhookTarget(url="env:A", secret="env:B")) == [
        "--webhook",
        "env:A",
        "--webhook-secret",
        "env:B",
    ]


def test_url_or_secret_itself_is_refused_without_being_repeated() -> None:
    with pytest.raises(UsageProblem, match="for a --webhook, which is missing"):
        webhook_target(Settings(), None, "env:B")
    with pytest.raises(SecretReferenceInvalid) as refused:
        webhook_target(Settings(), "https://hooks.example.net/T0K3N", None)
    assert "T0K3N" not in str(refused.value)


def test_settings_name_a_webhook_by_its_table_or_by_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ops-manager.toml").write_text('[webhook]\nurl = "env:A"\n')
    assert load_settings(tmp_path / "ops-manager.toml").webhook == WebhookSettings(url="env:A")
    monkeypatch.setenv("OPS_MANAGER_WEBHOOK__SECRET", "file:/s")
    assert load_settings(tmp_path / "ops-manager.toml").webhook == WebhookSettings(url="env:A", secret="file:/s")


async def test_supervisor_keeps_the_webhook_it_was_started_with_and_says_which(place: Place) -> None:
    begun = await place.ops("supervise", *ON_THIS_MACHINE, "--webhook", "env:HOOK", "--webhook-secret", "env:KEY")
    assert begun.code == 9, begun  # nobody works here
    start = await known_start(place.client, "loop:acme:demo")
    assert start is not None
    assert start.webhook == WebhookTarget(url="env:HOOK", secret="env:KEY")
    again = await place.ops("supervise", *ON_THIS_MACHINE, "--webhook", "env:HOOK", "--webhook-secret", "env:KEY")
    assert again.code == 9, again
    other = await place.ops("supervise", *ON_THIS_MACHINE)
    assert other.code == 4, other
    assert "notices go to env:HOOK signed with env:KEY, not to nobody" in other.err


async def test_doctor_says_whether_the_receiver_of_a_loop_can_be_reached_and_takes_a_test(
    place: Place, receiver: Receiver
) -> None:
    named = webhook_flags(receiver.webhook)
    await place.ops("supervise", *ON_THIS_MACHINE, *named)
    done = await place.ops("doctor", "demo", "--send-test-notice")
    assert "ok    test notice   the receiver answered 200" in done.out
    assert "ok    signing" in done.out
    (taken,) = receiver.taken
    assert taken.body["type"] == "test"
    receiver.status = 403
    done = await place.ops("doctor", *named, "--send-test-notice")
    assert "fail  test notice" in done.out
    assert "answered 403" in done.out
    (receiver.folder / "secret").write_text("nonsense")
    done = await place.ops("doctor", *named)
    assert "fail  webhook" in done.out
    assert "holds is no signing secret" in " ".join(done.out.split())
    assert not [secret for secret in SECRETS if secret in done.out + done.err]


async def test_doctor_warns_of_a_webhook_in_the_clear_or_unsigned(place: Place, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://hooks.example.net/T0K3N")
    done = await place.ops("doctor", "--webhook", f"file:{tmp_path / 'url'}")
    assert "warn  webhook" in done.out
    assert "notices travel in the clear" in done.out
    assert "warn  signing" in done.out
    assert "T0K3N" not in done.out
    assert "there is none to send a test notice to" in (await place.ops("doctor", "--send-test-notice")).out


def card(shown: StatusReport) -> str:
    return text_of(status_card(shown, None, NOW), width=10_000, coloured=False)


def condition(kind: Attention, sentence: str) -> OpenCondition:
    return OpenCondition(
        id="x", kind=kind, subject="the loop", since=NOW - timedelta(minutes=2), opened_at=NOW, sentence=sentence
    )


def test_status_shows_what_else_is_open_and_how_delivery_goes() -> None:
    open_now = [condition(Attention.APPROVAL_WAITING, "Waiting"), condition(Attention.SERVICE_DOWN, "It is away")]
    failing = NoticesReport(
        pending=3,
        delivered=7,
        last_delivered_at=NOW - timedelta(hours=1),
        last_error="the webhook (env:HOOK) answered 503",
        failing_since=NOW - timedelta(minutes=5),
        collapsed=2,
        undelivered_count=1,
    )
    shown = card(waiting(conditions=open_now, notices=failing))
    assert "also        service down since" in shown
    assert "It is away" in shown
    assert "7 delivered, the last " in shown
    assert "3 waiting; NOT taken since " in shown
    assert "the webhook (env:HOOK) answered 503; 1 given up; 2 dropped in pairs" in shown
    assert "also" not in card(waiting(conditions=open_now[:1], notices=None))
    assert "notices" not in card(report())

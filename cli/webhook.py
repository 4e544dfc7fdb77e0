"""Where notices go: the options, and what `doctor` finds about a receiver."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from cli.checks import Finding, fail, ok, warn
from cli.errors import AuthProblem, UsageProblem
from cli.exit_codes import ExitCode
from cli.places import checked_reference
from contract.notices import Notice, NoticeType, PendingNotice, WebhookTarget
from contract.status import Attention
from worker.settings import Settings

_F = TypeVar("_F", bound=Callable[..., Any])
_FIX = "set it where the worker runs (and here, for this check)"


def webhook_options(command: _F) -> _F:
    """Give a click command the options that `webhook_target` reads."""
    options = [
        click.option("--webhook", metavar="REF", help="Where notices go: env:NAME or file:PATH of the URL."),
        click.option("--webhook-secret", metavar="REF", help="What notices are signed with, likewise by reference."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def webhook_target(settings: Settings, url: str | None, secret: str | None) -> WebhookTarget | None:
    """Where notices go by the options, else by the settings; None: nobody is told. Nothing is read.

    Raises UsageProblem, and SecretReferenceInvalid for what is no reference.
    """
    known = settings.webhook
    if url is None and known is not None:
        return WebhookTarget(url=_absolute(known.url), secret=checked_reference(secret or known.secret))
    if url is None:
        if secret is not None:
            raise UsageProblem("--webhook-secret is for a --webhook, which is missing")
        return None
    return WebhookTarget(url=_absolute(url), secret=checked_reference(secret))


def _absolute(reference: str) -> str:
    return checked_reference(reference) or reference


def webhook_flags(webhook: WebhookTarget | None) -> list[str]:
    """The options that name it again."""
    given = {"--webhook": webhook.url, "--webhook-secret": webhook.secret} if webhook else {}
    return [part for name, reference in given.items() if reference for part in (name, reference)]


def check_webhook(webhook: WebhookTarget) -> None:
    """Read what the references lead to; raises AuthProblem when it cannot be used."""
    from activities.deliver import NotDelivered, signing_key, webhook_url

    try:
        webhook_url(webhook)
        signing_key(webhook)
    except NotDelivered as error:
        raise AuthProblem(str(error)) from None


async def webhook_findings(webhook: WebhookTarget, *, send_test: bool) -> list[Finding]:
    """Whether its references lead to what can be used, as far as this machine can tell; with `send_test` also whether
    the receiver takes a notice that is none."""
    from activities.deliver import NotDelivered, NoticeSender, signing_key, webhook_url

    about = "webhook"
    try:
        url, key = webhook_url(webhook), signing_key(webhook)
    except NotDelivered as error:
        return [fail(about, str(error), _FIX, ExitCode.AUTH)]
    found = [ok(about, f"{webhook.url} holds an {url.scheme} URL")]
    if url.scheme == "http" and not _is_here(url.host):
        found = [warn(about, f"{webhook.url} holds an http URL: notices travel in the clear", "use an https URL")]
    if key is None:
        fix = "name one: --webhook-secret REF"
        found.append(warn("signing", "notices are not signed, so anybody who knows the URL can send some", fix))
    else:
        found.append(ok("signing", f"{webhook.secret} holds a signing secret"))
    if send_test:
        sender = NoticeSender()
        try:
            status = await sender.send(webhook, _test_notice())
            found.append(ok("test notice", f"the receiver answered {status}"))
        except NotDelivered as error:
            found.append(fail("test notice", str(error), "look at the receiver's log", ExitCode.TRANSPORT))
        finally:
            await sender.aclose()
    return found


def _is_here(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def _test_notice() -> PendingNotice:
    now = datetime.now(UTC).replace(microsecond=0)
    name = f"test-{now:%Y%m%dT%H%M%SZ}"
    notice = Notice(
        type=NoticeType.TEST,
        id=name,
        sprite="-",
        loop_id="-",
        workflow_id="-",
        kind=Attention.NONE,
        opened_at=now,
        sentence="A test by ops-manager doctor: nothing has happened.",
    )
    return PendingNotice(message_id=name, notice=notice)

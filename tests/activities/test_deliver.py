"""One try to deliver a notice: what is sent, what counts as taken, and that no secret is in any failure (D13, D22)."""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import deliver
from activities.deliver import NotDelivered, NoticeActivities, request_headers, signing_key
from contract.notices import DeliverInput, Notice, NoticeType, PendingNotice, WebhookTarget
from contract.status import Attention
from tests.receiver import SECRETS, Receiver, receiving

NOW = datetime(2026, 11, 22, 3, 12, 7, tzinfo=UTC)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path / "receiver") as started:
        yield started


@pytest.fixture
async def notices() -> AsyncIterator[NoticeActivities]:
    async with NoticeActivities() as activities:
        yield activities


def message() -> PendingNotice:
    notice = Notice(
        type=NoticeType.OPENED,
        id="run-blind-1-00",
        sprite="acme",
        loop_id="übung",
        workflow_id="loop:acme:übung",
        kind=Attention.BLIND,
        subject="the loop",
        opened_at=NOW,
        sentence="Cannot see the loop.",
        transport="blind",
    )
    return PendingNotice(message_id="run-blind-1-00-opened", notice=notice)


async def sent(notices: NoticeActivities, webhook: WebhookTarget) -> int:
    asked = DeliverInput(webhook=webhook, message=message())
    result = await ActivityEnvironment().run(notices.deliver, asked)
    return int(result.http_status)


async def failure(notices: NoticeActivities, webhook: WebhookTarget) -> ApplicationError:
    with pytest.raises(ApplicationError) as raised:
        await sent(notices, webhook)
    assert raised.value.type == "NotDelivered"
    assert not raised.value.non_retryable
    shown = f"{raised.value!r} {raised.value} {raised.value.__cause__!r} {raised.value.details}"
    assert not [secret for secret in SECRETS if secret in shown]
    assert "127.0.0.1" not in shown
    return raised.value


async def test_notice_arrives_signed_under_its_id_with_everything_a_receiver_needs(
    notices: NoticeActivities, receiver: Receiver
) -> None:
    assert await sent(notices, receiver.webhook) == 200
    (taken,) = receiver.taken
    assert receiver.forged == []
    assert taken.message_id == taken.headers["idempotency-key"] == "run-blind-1-00-opened"
    assert taken.headers["content-type"] == "application/json"
    assert taken.body == {
        "type": "condition.opened",
        "id": "run-blind-1-00",
        "sprite": "acme",
        "loopId": "übung",
        "workflowId": "loop:acme:übung",
        "kind": "blind",
        "subject": "the loop",
        "openedAt": "2026-11-22T03:12:07Z",
        "sentence": "Cannot see the loop.",
        "transport": "blind",
    }


async def test_second_try_differs_in_time_and_signature_only(notices: NoticeActivities, receiver: Receiver) -> None:
    for _ in range(2):
        await sent(notices, receiver.webhook)
    first, second = receiver.taken
    assert (first.message_id, first.body) == (second.message_id, second.body)


def test_signature_is_that_of_the_standard_webhooks_scheme() -> None:
    # The example of the scheme's own documentation.
    body = b'{"test": 2432232314}'
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    pending = message().model_copy(update={"message_id": "msg_p5jXN8AQM9LWM0D4loKWxJek"})
    headers = request_headers(pending, body, key, 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    signed = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + body
    assert headers["webhook-signature"][3:] == base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


async def test_notice_without_a_secret_is_sent_unsigned(notices: NoticeActivities, receiver: Receiver) -> None:
    error = await failure(notices, WebhookTarget(url=receiver.webhook.url))
    assert receiver.forged == ["run-blind-1-00-opened"]
    assert "401" in error.message


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_what_may_pass_is_tried_again_at_the_usual_pace(
    notices: NoticeActivities, receiver: Receiver, status: int
) -> None:
    receiver.status = status
    error = await failure(notices, receiver.webhook)
    assert error.message == f"the webhook ({receiver.webhook.url}) answered {status}"
    assert error.next_retry_delay is None


@pytest.mark.parametrize(
    ("asked", "heeded"),
    [
        ("90", timedelta(seconds=90)),
        ("86400", timedelta(minutes=30)),
        ("0", None),
        ("1", None),
        ("9" * 5_000, None),
        ("-90", None),
        ("Fri, 27 Nov 2026 00:00:00 GMT", None),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_rest_that_a_receiver_asks_for_is_heeded_within_bounds(
    notices: NoticeActivities, receiver: Receiver, asked: str, heeded: timedelta | None
) -> None:
    receiver.status, receiver.retry_after = 503, asked
    assert (await failure(notices, receiver.webhook)).next_retry_delay == heeded


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 422])
async def test_what_an_operator_has_to_mend_is_tried_again_slowly_and_for_ever(
    notices: NoticeActivities, receiver: Receiver, status: int
) -> None:
    receiver.status, receiver.location = status, receiver.folder.as_uri()
    error = await failure(notices, receiver.webhook)
    assert f"answered {status}" in error.message
    assert error.next_retry_delay == timedelta(minutes=5)


async def test_redirect_is_not_followed(notices: NoticeActivities, receiver: Receiver, tmp_path: Path) -> None:
    with receiving(tmp_path / "other") as other:
        receiver.status, receiver.location = 307, f"http://127.0.0.1:{other.port}/"
        await failure(notices, receiver.webhook)
        assert other.tries == []


async def test_receiver_that_is_down_or_hangs_is_a_failure_within_the_limit(
    notices: NoticeActivities, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "LIMIT_S", 0.5)
    receiver.hangs = True
    assert "did not answer within" in (await failure(notices, receiver.webhook)).message
    receiver.stop()
    assert "cannot be reached: ConnectError" in (await failure(notices, receiver.webhook)).message


@pytest.mark.parametrize("held", ["no-scheme.example", "ftp://example.net/x", "http://", "http://[::1", "http://a:b/"])
async def test_reference_to_what_is_no_url_is_named_and_not_shown(
    notices: NoticeActivities, tmp_path: Path, held: str
) -> None:
    (tmp_path / "url").write_text(held)
    error = await failure(notices, WebhookTarget(url=f"file:{tmp_path / 'url'}"))
    assert f"{tmp_path / 'url'}" in error.message
    assert held not in error.message
    assert error.next_retry_delay == timedelta(minutes=5)


async def test_missing_reference_heals_when_it_is_there(notices: NoticeActivities, receiver: Receiver) -> None:
    url = (receiver.folder / "url").read_text()
    (receiver.folder / "url").unlink()
    assert "cannot be read where this worker runs" in (await failure(notices, receiver.webhook)).message
    (receiver.folder / "url").write_text(url)
    assert await sent(notices, receiver.webhook) == 200


@pytest.mark.parametrize("held", ["too-short", "whsec_c2hvcnQ=", "whsec_***", "a-password-of-somebody-else!"])
def test_what_is_no_signing_secret_is_refused_without_being_shown(tmp_path: Path, held: str) -> None:
    (tmp_path / "secret").write_text(held)
    with pytest.raises(NotDelivered) as raised:
        signing_key(WebhookTarget(url="env:X", secret=f"file:{tmp_path / 'secret'}"))
    assert raised.value.mend
    assert held not in str(raised.value)


async def test_nothing_that_is_logged_on_the_way_holds_a_secret(
    notices: NoticeActivities, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await sent(notices, receiver.webhook)
        receiver.status = 500
        await failure(notices, receiver.webhook)
    assert not [secret for secret in SECRETS if secret in caplog.text]


def test_what_goes_into_history_names_references_only(receiver: Receiver) -> None:
    asked = DeliverInput(webhook=receiver.webhook, message=message()).model_dump_json()
    assert not [secret for secret in SECRETS if secret in asked]
    assert json.loads(asked)["webhook"]["url"].startswith("file:")

"""Delivery of notices: one signed POST for each try, as the Standard Webhooks scheme has it.

The receiver tells repetitions by `webhook-id`, which never changes, and a forgery by `webhook-signature`. The URL may
hold a secret (many receivers know their senders by it), so it is named by its reference everywhere: no message, log or
history holds more of it than that, nor anything that the receiver answered but the status.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import time
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self

import httpx
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.secrets import SecretUnavailable, resolve_secret
from contract.notices import DeliverInput, DeliverResult, PendingNotice, WebhookTarget
from contract.observation import ActivityName, FailureType

LIMIT_S = 8.0
"""For one try, everything included; below the activity's own limit, so that the reason is told."""
CONNECT_TIMEOUT_S = 3.0
SLOWLY = timedelta(minutes=5)
"""Until the next try of what only an operator can mend."""
SHORTEST_REST, LONGEST_REST = timedelta(minutes=1), timedelta(minutes=30)
"""What a receiver may ask for; below that, the pauses that grow by themselves are kinder to both sides."""
SHORTEST_KEY_BYTES = 16
_SECRET_PREFIX = "whsec_"  # noqa: S105 - how such secrets begin
_MAY_PASS = frozenset({408, 425, 429})
"""Of the 4xx, those that speak of a moment rather than of a mistake."""
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")

# It logs the whole URL of every request.
logging.getLogger("httpx").setLevel(logging.WARNING)


class NotDelivered(Exception):
    """The receiver did not take a notice; `str()` names its status or what went wrong.

    `mend`: nothing but an operator helps. `rest`: for how long the receiver asks to be left alone.
    """

    def __init__(self, message: str, *, mend: bool = False, rest: timedelta | None = None) -> None:
        super().__init__(message)
        self.mend = mend
        self.rest = rest


def webhook_url(webhook: WebhookTarget) -> httpx.URL:
    """The URL, read now; raises NotDelivered when there is none that can be used."""
    try:
        url = httpx.URL(resolve_secret(webhook.url))
    except SecretUnavailable as error:
        raise NotDelivered(str(error), mend=True) from None
    except httpx.InvalidURL:
        raise NotDelivered(f"what {webhook.url} holds is no URL", mend=True) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise NotDelivered(f"what {webhook.url} holds is no http or https URL", mend=True)
    return url


def signing_key(webhook: WebhookTarget) -> bytes | None:
    """The key, read now; None where notices are not signed. Raises NotDelivered for one that cannot be used."""
    if webhook.secret is None:
        return None
    try:
        text = resolve_secret(webhook.secret)
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except SecretUnavailable as error:
        raise NotDelivered(str(error), mend=True) from None
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SHORTEST_KEY_BYTES:
        raise NotDelivered(
            f"what {webhook.secret} holds is no signing secret: it has to be {_SECRET_PREFIX} and at least "
            f"{SHORTEST_KEY_BYTES} bytes in base64",
            mend=True,
        )
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def request_headers(message: PendingNotice, body: bytes, key: bytes | None, timestamp: int) -> dict[str, str]:
    """The headers of one try; only the time, and with it the signature, differs from try to try."""
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": message.message_id,
        "webhook-id": message.message_id,
        "webhook-timestamp": str(timestamp),
    }
    if key is not None:
        headers["webhook-signature"] = signature(key, message.message_id, timestamp, body)
    return headers


class NoticeSender:
    """Sends notices; shared by every loop of a worker."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            # A proxy of the environment is for the way out, never for this machine.
            mounts=dict.fromkeys(_LOOPBACK),
            # What is signed is for one receiver, and a redirect may lead anywhere.
            follow_redirects=False,
            timeout=httpx.Timeout(LIMIT_S, connect=CONNECT_TIMEOUT_S),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            headers={"User-Agent": "superloop-ops-manager"},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def send(self, webhook: WebhookTarget, message: PendingNotice) -> int:
        """One try; returns the receiver's status, 2xx. Raises NotDelivered."""
        url, key = webhook_url(webhook), signing_key(webhook)
        body = message.notice.model_dump_json(by_alias=True, exclude_none=True).encode()
        headers = request_headers(message, body, key, int(time.time()))
        try:
            async with (
                asyncio.timeout(LIMIT_S),
                self._client.stream("POST", url, content=body, headers=headers) as response,
            ):
                status, retry_after = response.status_code, response.headers.get("Retry-After", "")
        except TimeoutError:
            raise NotDelivered(f"the webhook ({webhook.url}) did not answer within {LIMIT_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Its text may name the host, or quote what is in the URL.
            raise NotDelivered(f"the webhook ({webhook.url}) cannot be reached: {type(error).__name__}") from None
        if 200 <= status < 300:
            return status
        raise _refused(webhook, status, retry_after)


def _refused(webhook: WebhookTarget, status: int, retry_after: str) -> NotDelivered:
    said = f"the webhook ({webhook.url}) answered {status}"
    if status in _MAY_PASS or status >= 500:
        return NotDelivered(said, rest=_rest(retry_after))
    if 300 <= status < 400:
        return NotDelivered(f"{said}, a redirect, which is not followed: give the URL it leads to", mend=True)
    return NotDelivered(f"{said}: is that the right URL, and does it know our secret?", mend=True)


def _rest(retry_after: str) -> timedelta | None:
    # The longest number that may still be meant: a stranger's header can hold thousands of digits.
    if not (retry_after.isdecimal() and len(retry_after) < 8):
        return None
    asked = timedelta(seconds=int(retry_after))
    return min(asked, LONGEST_REST) if asked >= SHORTEST_REST else None


class NoticeActivities:
    """The activity as workers register it."""

    def __init__(self, sender: NoticeSender | None = None) -> None:
        self._sender = sender or NoticeSender()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sender.aclose()

    @activity.defn(name=ActivityName.DELIVER.value)
    async def deliver(self, asked: DeliverInput) -> DeliverResult:
        """One try to deliver a notice; Temporal makes the next one, later each time."""
        try:
            status = await self._sender.send(asked.webhook, asked.message)
        except NotDelivered as error:
            raise ApplicationError(
                str(error),
                type=FailureType.NOT_DELIVERED.value,
                next_retry_delay=SLOWLY if error.mend else error.rest,
                # A receiver that is down is no fault of the worker's: no stack traces about it.
                category=ApplicationErrorCategory.BENIGN,
            ) from None
        return DeliverResult(http_status=status)

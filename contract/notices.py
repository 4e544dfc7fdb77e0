"""What is told to whoever cannot watch: one notice when a condition opens, one when it closes.

A notice is the JSON body of a webhook request (camelCase) and lands in workflow history as it is, so it holds no
secret; where to send it, and with what to sign it, is named by reference.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from contract.observation import History
from contract.reports import Report
from contract.secrets import SecretReference
from contract.status import Attention


class WebhookTarget(History):
    """Where notices go: references to the URL, which may hold a secret itself, and to the signing secret if any."""

    url: SecretReference
    secret: SecretReference | None = None


class NoticeType(StrEnum):
    """What has happened to the condition."""

    OPENED = "condition.opened"
    CLOSED = "condition.closed"
    TEST = "test"
    """Nothing has happened: somebody tries whether notices arrive."""


class Notice(Report):
    """One notice. `id` is the condition's, the same when it opens and closes.

    `sentence` says what is the matter and what to do, or how it ended.
    `since`: as of when the condition holds, by the clock of whoever wrote the evidence; `openedAt` and `closedAt`: when
    the manager knew. `subject`: what exactly it is about; another request, run or intent is another condition.
    """

    type: NoticeType
    id: str
    sprite: str
    loop_id: str
    workflow_id: str
    kind: Attention
    subject: str = ""
    since: datetime | None = None
    opened_at: datetime
    closed_at: datetime | None = None
    run_id: str | None = None
    iteration: int | None = None
    sentence: str
    next_command: str | None = None
    transport: str = ""


class PendingNotice(History):
    """A notice on its way. `message_id` is what a receiver tells repetitions by; it never changes."""

    message_id: str
    notice: Notice


class DeliverInput(History):
    """One notice for `deliver`."""

    webhook: WebhookTarget
    message: PendingNotice


class DeliverResult(History):
    """The receiver has taken it. `http_status` is what it answered."""

    http_status: int

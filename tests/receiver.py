"""A receiver of notices as somebody else would write it: verifies signatures, and can be down, slow or broken.

Shares no code with `activities/deliver`. What it took is in `taken`, every try in `tries`.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.notices import WebhookTarget
from tests.harness_sprite import until
from tests.loopback import LoopbackService, QuietHandler

KEY = b"a key that only sender and receiver know"
PATH_SECRET = "T0K3N-in-the-path"
QUERY_SECRET = "T0K3N-in-the-query"
USER_SECRET = "T0K3N-of-the-user"
SIGNING_SECRET = "whsec_" + base64.b64encode(KEY).decode()
SECRETS = (PATH_SECRET, QUERY_SECRET, USER_SECRET, SIGNING_SECRET, SIGNING_SECRET.removeprefix("whsec_"))
"""What must be found nowhere."""
TOLERANCE_S = 300.0
"""A signature that is older was recorded and sent again by somebody else."""


@dataclass(frozen=True)
class Taken:
    """A notice as it arrived."""

    message_id: str
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def told(self) -> tuple[str, str]:
        """Kind and type: ("blind", "opened")."""
        return self.body["kind"], self.body["type"].removeprefix("condition.")


@dataclass
class Receiver(LoopbackService):
    """Listens on loopback; `status` is what it answers, `hangs` lets requests wait until the receiver is stopped."""

    folder: Path
    status: int = 200
    hangs: bool = False
    location: str | None = None
    retry_after: str | None = None
    taken: list[Taken] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("url", f"http://{USER_SECRET}:x@127.0.0.1:{self.port}/hook/{PATH_SECRET}?key={QUERY_SECRET}")
        self._write("secret", SIGNING_SECRET)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")

    @property
    def webhook(self) -> WebhookTarget:
        """The references that lead here."""
        return WebhookTarget(url=f"file:{self.folder / 'url'}", secret=f"file:{self.folder / 'secret'}")

    @property
    def handler(self) -> type[QuietHandler]:
        """See base class."""
        return _Handler

    @property
    def told(self) -> list[tuple[str, str]]:
        """What was told, each message once: (kind, opened or closed), in the order of its first arrival."""
        return [taken.told for taken in self.distinct]

    @property
    def distinct(self) -> list[Taken]:
        """The messages that were taken, each once."""
        return list({taken.message_id: taken for taken in reversed(self.taken)}.values())[::-1]

    def of(self, kind: str) -> list[Taken]:
        """The messages about one kind of condition."""
        return [taken for taken in self.distinct if taken.told[0] == kind]

    async def until(self, holds: Callable[["Receiver"], object], what: str, *, timeout_s: float = 30.0) -> None:
        """Wait until `holds`."""
        await until(lambda: holds(self), f"{what}; told so far {self.told}", timeout_s=timeout_s)

    async def until_told(self, *told: tuple[str, str], timeout_s: float = 30.0) -> None:
        """Wait until exactly this was told."""
        await self.until(lambda _: len(self.told) >= len(told), f"told {told}", timeout_s=timeout_s)
        assert self.told == list(told)

    def handle(self, headers: dict[str, str], body: bytes) -> int:
        """Take a request; returns the status."""
        self.tries.append(headers.get("webhook-id", ""))
        if self.hangs:
            self.hang_up()
            return 503
        if not _is_genuine(headers, body):
            self.forged.append(headers.get("webhook-id", ""))
            return 401
        if 200 <= self.status < 300:
            self.taken.append(Taken(headers["webhook-id"], json.loads(body), headers))
        return self.status


def _is_genuine(headers: dict[str, str], body: bytes) -> bool:
    """The receiver's half of the Standard Webhooks scheme."""
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isdecimal() or abs(time.time() - int(stamp)) > TOLERANCE_S:
        return False
    signed = b".".join([headers.get("webhook-id", "").encode(), stamp.encode(), body])
    expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(expected, given) for given in headers.get("webhook-signature", "").split(" "))


def assert_each_told_once(receiver: Receiver) -> None:
    """Every condition was opened under one message id and closed under one, in this order, and nothing was forged."""
    assert receiver.forged == []
    ids = [taken.message_id for taken in receiver.distinct]
    for taken in receiver.distinct:
        condition, kind = taken.body["id"], taken.told[1]
        assert taken.message_id == f"{condition}-{kind}"
        if kind == "closed":
            assert f"{condition}-opened" in ids[: ids.index(taken.message_id)], ids
    for message_id in set(ids):
        # After a reset the same condition was opened again, later.
        bodies = [_timeless(taken.body) for taken in receiver.taken if taken.message_id == message_id]
        assert all(body == bodies[0] for body in bodies), bodies


def _timeless(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("openedAt", "closedAt")}


@contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    """A started receiver, stopped in the end."""
    with Receiver(folder).running() as receiver:
        yield receiver


class _Handler(QuietHandler):
    def do_POST(self) -> None:  # noqa: N802 - what http.server calls
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        receiver: Receiver = self.server.owner
        status = receiver.handle({name.lower(): value for name, value in self.headers.items()}, body)
        self.send_response(status)
        if receiver.location:
            self.send_header("Location", receiver.location)
        if receiver.retry_after:
            self.send_header("Retry-After", receiver.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

"""The service's log: JSON lines on stderr, without a secret in them, and never a flood."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

LOGGERS = ("sprite", "uvicorn", "asyncio")
MAX_PATH_CHARS = 200
_HIDDEN = "[hidden]"
_SHORTAGES = ("socket.accept() out of system resource", "connection refused: all are busy")
_SHORTAGE_INTERVAL_S = 60.0


class JsonLines(JsonFormatter):
    """One JSON object a line: timestamp (UTC), level, logger, message and what the caller adds.

    Whatever a record holds, `secrets` never reach the line (D22): a client may have put the token into the path. They
    are looked for in the values as they came, because a clipped or escaped secret is still most of one.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(message)s", json_ensure_ascii=False)
        # Also as an exception's text would quote it.
        self._secrets = {form for secret in secrets if secret for form in (secret, repr(secret)[1:-1])}

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put what every line has first."""
        moment = datetime.fromtimestamp(record.created, UTC)
        log_data["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        super().add_fields(log_data, record, message_dict)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """The fields with secrets replaced, and only then clipped."""
        shown = {key: self._without_secrets(value) for key, value in log_data.items()}
        if isinstance(shown.get("path"), str):
            shown["path"] = shown["path"][:MAX_PATH_CHARS]
        return shown

    def _without_secrets(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        text = str(value)
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text


class Sparse(logging.Filter):
    """Lets a line about a shortage through once a minute: a flood of connections causes one for each of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next = dict.fromkeys(_SHORTAGES, -math.inf)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        message, now = record.getMessage(), self._clock()
        shortage = next((known for known in _SHORTAGES if message.startswith(known)), None)
        if shortage is None:
            return True
        if now < self._next[shortage]:
            return False
        self._next[shortage] = now + _SHORTAGE_INTERVAL_S
        return True


def configure_logging(stream: TextIO, secrets: Iterable[str] = ()) -> None:
    """Send the service's loggers to `stream`; the server's own chatter only from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(secrets))
    handler.addFilter(Sparse())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "sprite" else logging.WARNING)

"""What the service writes about itself: no secret in any disguise, and no flood (D22)."""

import json
import logging
import sys
from typing import Any

import pytest

from sprite.http.logs import MAX_PATH_CHARS, JsonLines, Sparse

PLAIN = "Zq7-" + "".join(f"{n:03}" for n in range(13))
QUOTED = "s3cret\"part\\one'two-abcdefghijklmnop"


def line_for(secret: str, message: str, **extra: Any) -> dict[str, Any]:
    """The line as it is written, parsed; fails when 6 characters of the secret in a row are in it, escaped or not."""
    record = logging.makeLogRecord({"name": "sprite.http", "levelno": logging.INFO, "msg": message, **extra})
    text = JsonLines([secret]).format(record)
    shown: dict[str, Any] = json.loads(text)
    for start in range(len(secret) - 5):
        piece = secret[start : start + 6]
        assert piece not in text
        assert not any(piece in str(value) for value in shown.values())
    return shown


@pytest.mark.parametrize("secret", [PLAIN, QUOTED])
@pytest.mark.parametrize("before", [0, 100, MAX_PATH_CHARS - len(PLAIN) + 1, MAX_PATH_CHARS - 10, MAX_PATH_CHARS])
def test_d22_secret_in_a_path_is_hidden_wherever_the_path_is_clipped(secret: str, before: int) -> None:
    shown = line_for(secret, "request", path="/" + "a" * before + secret + "/end")

    assert len(shown["path"]) <= MAX_PATH_CHARS


@pytest.mark.parametrize("secret", [PLAIN, QUOTED])
def test_d22_secret_in_messages_and_tracebacks_is_hidden_however_it_is_quoted(secret: str) -> None:
    try:
        raise ValueError(f"{secret!r} is not expected, nor {secret}")
    except ValueError:
        shown = line_for(secret, f"failed for {secret}", exc_info=sys.exc_info(), detail={"token": secret})

    assert shown["message"] == "failed for [hidden]"
    assert "ValueError" in shown["exc_info"]
    assert "[hidden]" in shown["detail"]


def test_d21_shortage_is_told_once_a_minute_and_everything_else_always() -> None:
    now = [0.0]
    sparse = Sparse(lambda: now[0])

    def passes(message: str) -> bool:
        return sparse.filter(logging.makeLogRecord({"msg": message}))

    shortage = "socket.accept() out of system resource\nsocket: <asyncio.TransportSocket fd=6>"
    assert [passes(shortage) for _ in range(1_000)].count(True) == 1
    assert all(passes("request") for _ in range(3))
    assert passes("connection refused: all are busy")
    assert not passes("connection refused: all are busy")
    now[0] = 60.0
    assert passes(shortage)

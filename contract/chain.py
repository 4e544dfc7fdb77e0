"""Event lines and the rolling hash over them.

`chain_n = sha256(chain_{n-1} || h_n)` over raw digests, `chain_0` = 32 zero bytes. `h_n` is the SHA-256 of the
RFC 8785 form of the line's JSON, every number first an IEEE double, non-finite numbers null, invalid UTF-8 and lone
surrogates U+FFFD: what is left when a peer has re-serialised the line with jq, so that a chain computed from a foreign
service's `event.raw` equals the one computed from the file. (Two oddities of jq, in lines that the runtime never
writes: 1.6 turns a number beyond a double into the largest one, and several bad bytes may become one U+FFFD.) A line
that cannot be an event has `h_n = sha256('!' || its bytes)`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from typing import Any

import rfc8785

from contract.errors import EventLineInvalid

GENESIS = bytes(32)
"""The chain before line 1."""

_CHAIN = re.compile(r"[0-9a-f]{64}")
_MAX_INT_DIGITS = 300
_MAX_NESTING = 128
"""Explicit, so that every reader gives the same verdict: the interpreter's own limit depends on who calls."""
_JSON_SPACE = " \t\r\n"
"""What JSON allows around a value; any other white space makes the line garbage to everybody else as well."""


def parse_event_line(line: bytes) -> dict[str, Any]:
    """The JSON object on a terminated line (`line` without its newline).

    Raises EventLineInvalid when the line must be quarantined (D4): not JSON, nested more than 128 levels deep, not an
    object, without a name (`.event`, else `.type`) or without a timestamp.
    """
    text = line.decode("utf-8", errors="replace").strip(_JSON_SPACE)
    if not text:
        raise EventLineInvalid("empty line")
    try:
        parsed = _decode(text)
    except (ValueError, RecursionError) as error:
        raise EventLineInvalid(f"not JSON: {_short(error)}") from None
    if _is_too_deep(text, parsed):
        raise EventLineInvalid("not JSON: nested too deeply")
    if not isinstance(parsed, dict):
        raise EventLineInvalid(f"not an object but {type(parsed).__name__}")
    if event_name(parsed) is None:
        raise EventLineInvalid("no event name")
    if not (isinstance(parsed.get("timestamp"), str) and parsed["timestamp"]):
        raise EventLineInvalid("no timestamp")
    return parsed


def _is_too_deep(text: str, parsed: Any) -> bool:
    if text.count("[") + text.count("{") <= _MAX_NESTING:
        return False  # as for almost every line
    level = [parsed]
    for _ in range(_MAX_NESTING):
        containers = [value for value in level if isinstance(value, dict | list)]
        level = [item for value in containers for item in (value.values() if isinstance(value, dict) else value)]
    return any(isinstance(value, dict | list) for value in level)


def event_name(event: dict[str, Any]) -> str | None:
    """The name of an event: `.event`, else `.type`; None when neither is a non-empty string."""
    for key in ("event", "type"):
        value = event.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def _parse_int(digits: str) -> int | float:
    # A number too long for a double is infinite to everybody else; Python would refuse it or eat memory.
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else float(digits)


# Made once: json.loads with a hook makes a decoder at every call, which takes as long as most lines.
_decode = json.JSONDecoder(parse_int=_parse_int).decode


def _short(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]


def line_hash(event: dict[str, Any]) -> bytes:
    """`h_n` of a line that is an event, from its parsed JSON.

    Raises EventLineInvalid for JSON nested too deeply to be hashed.
    """
    try:
        return hashlib.sha256(_plain_form(event) or rfc8785.dumps(_canonical(event))).digest()
    except RecursionError:
        raise EventLineInvalid("not JSON: nested too deeply") from None


# Numbers that RFC 8785 may write otherwise: floats, and integers beyond a double. It matches inside
# strings as well, which costs time only.
_ODD_NUMBER = re.compile(r"[:\[,]-?(?:\d+[.eE]|\d{16})")
_plain = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _plain_form(event: dict[str, Any]) -> bytes | None:
    """The RFC 8785 form by the standard encoder, six times faster, where both are the same; else None.

    They differ in numbers other than small integers, in lone surrogates, and in the order of keys beyond the BMP.
    """
    try:
        text = _plain(event)
    except ValueError:  # not finite
        return None
    if not (text.isascii() or max(text) < "\ud800") or _ODD_NUMBER.search(text):
        return None
    return text.encode()


def quarantined_hash(line: bytes) -> bytes:
    """`h_n` of a quarantined line, from its bytes without the newline."""
    return hashlib.sha256(b"!" + line).digest()


def extend(chain: bytes, h: bytes) -> bytes:
    """The chain after one more line."""
    return hashlib.sha256(chain + h).digest()


def read_chain(shown: object) -> str | None:
    """A chain as it is shown (64 hex digits); None for anything else, which nothing could be continued from."""
    return shown if isinstance(shown, str) and _CHAIN.fullmatch(shown) else None


def _text(value: str) -> str:
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


_CANONICAL: dict[type, Callable[[Any], Any]] = {}


def _canonical(value: Any) -> Any:
    convert = _CANONICAL.get(type(value))
    return convert(value) if convert else value


_CANONICAL.update(
    {
        dict: lambda value: {_text(key): _canonical(item) for key, item in value.items()},
        list: lambda value: [_canonical(item) for item in value],
        str: _text,
        int: _number,
        float: _number,
    }
)

"""Cursor, line count and hash chain of an event log, computed from its bytes alone.

Written a second time from the description in docs/architecture.md, on purpose: it shares no code with `sprite/`,
`contract/` or the library for canonical JSON that they use, so that a mistake there cannot hide here as well.
"""

import hashlib
import json
import math
from typing import Any, NamedTuple


class Read(NamedTuple):
    """What a reader that consumed the whole log knows. `bad_lines` are those that are no events."""

    line_count: int
    chain: str
    bad_lines: list[int]


def read_log(content: bytes) -> Read:
    """Read a log to its last terminated line."""
    chain = b"\x00" * 32
    bad_lines = []
    lines = content.split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        digest = _event_hash(line)
        if digest is None:
            bad_lines.append(number)
            digest = hashlib.sha256(b"!" + line).digest()
        chain = hashlib.sha256(chain + digest).digest()
    return Read(len(lines), chain.hex(), bad_lines)


def _event_hash(line: bytes) -> bytes | None:
    try:
        event = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    named = any(isinstance(event.get(key), str) and event[key] for key in ("event", "type"))
    timed = isinstance(event.get("timestamp"), str) and event["timestamp"]
    if not (named and timed):
        return None
    return hashlib.sha256(canonical(event).encode()).digest()


def canonical(value: Any) -> str:
    """RFC 8785: keys in UTF-16 order, no spaces, numbers as ECMAScript writes the nearest double."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_string(key)}:{canonical(item)}" for key, item in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _number(value)


def _string(text: str) -> str:
    # A lone surrogate is no character and becomes U+FFFD, as in every program that writes UTF-8.
    text = text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")
    return json.dumps(text, ensure_ascii=False)


def _number(value: float) -> str:
    try:
        number = float(value)
    except OverflowError:
        return "null"
    if not math.isfinite(number):
        return "null"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent_text = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    # digits x 10^(point - len(digits)), where `point` is the position of the decimal point after the first digit.
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or 0) - (len(whole + fraction) - len(digits) if whole == "0" else 0)
    digits = digits.rstrip("0") or "0"
    return sign + _ecmascript(digits, point)


def _ecmascript(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    exponent = f"e{point - 1:+d}"
    return digits + exponent if count == 1 else f"{digits[0]}.{digits[1:]}{exponent}"

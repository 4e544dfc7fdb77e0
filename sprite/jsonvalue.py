"""JSON values as they may be sent: no NaN or infinity, no lone surrogate."""

from __future__ import annotations

import json
import math
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def compact(value: Any) -> str:
    """`value` as compact JSON text that any reader takes, and that encodes as UTF-8.

    Non-finite numbers become null and lone surrogates U+FFFD: what jq makes of them, and what the chain assumes.
    Raises RecursionError for a value nested too deeply.
    """
    try:
        text = _encode(value)
        text.encode()
    except ValueError:  # UnicodeEncodeError is one
        return _encode(_mend(value))
    return text


def sendable(value: Any) -> Any:
    """`value` itself when it can be sent as it is, else a mended copy (see `compact`)."""
    try:
        _encode(value).encode()
    except ValueError:
        return _mend(value)
    return value


def _mend(value: Any) -> Any:
    if isinstance(value, dict):
        return {_mend(key): _mend(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_mend(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

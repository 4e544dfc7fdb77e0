"""The contract's error codes and the exceptions raised while reading what crosses a boundary.

ContractError                  something that crossed a boundary breaks the contract; a retry cannot help
├── IdentifierInvalid          a loop id, sprite name or loop name that must not be used
├── EnvelopeInvalid            an envelope or a page that is not what the contract says
├── EventLineInvalid           one line of an event log that has to be quarantined
├── SecretReferenceInvalid     a reference to a secret that is neither env:NAME nor file:PATH
└── IntentInvalid              a control intent that is refused before anything is done
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class ErrorCode(StrEnum):
    """The `error.code` values of the HTTP protocol (contract.md, "HTTP service"), with the status each goes with."""

    UNAUTHORIZED = "unauthorized"
    INVALID_REQUEST = "invalid_request"
    INVALID_JSON = "invalid_json"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    LOOP_NOT_FOUND = "loop_not_found"
    CURSOR_AHEAD = "cursor_ahead"
    EVENTS_REWRITTEN = "events_rewritten"
    IN_FLIGHT = "in_flight"
    PRECONDITION_FAILED = "precondition_failed"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    OTHER_LOOP_ACTIVE = "other_loop_active"
    WRONG_SPRITE = "wrong_sprite"
    KEY_REUSED = "key_reused"
    RUNTIME_ERROR = "runtime_error"
    NOT_READY = "not_ready"


HTTP_STATUS: dict[ErrorCode, int] = {
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.INVALID_JSON: 400,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.LOOP_NOT_FOUND: 404,
    ErrorCode.CURSOR_AHEAD: 409,
    ErrorCode.EVENTS_REWRITTEN: 409,
    ErrorCode.IN_FLIGHT: 409,
    ErrorCode.PRECONDITION_FAILED: 412,
    ErrorCode.NOTHING_TO_CANCEL: 412,
    ErrorCode.OTHER_LOOP_ACTIVE: 412,
    ErrorCode.WRONG_SPRITE: 412,
    ErrorCode.KEY_REUSED: 422,
    ErrorCode.RUNTIME_ERROR: 502,
    ErrorCode.NOT_READY: 503,
}


class ErrorDetail(BaseModel):
    """The `error` object of an error body; unknown fields are kept."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class ErrorBody(BaseModel):
    """`{ok: false, error: {code, message}}`: the body that says the service is alive and refuses."""

    model_config = ConfigDict(extra="allow")

    ok: bool = False
    error: ErrorDetail


class ContractError(Exception):
    """Something that crossed a boundary breaks the contract. A retry of the same thing cannot help."""


class IdentifierInvalid(ContractError):
    """A loop id, sprite name or loop name that must not be used (D11)."""


class EnvelopeInvalid(ContractError):
    """An envelope or an events page that is not what the contract says."""


class EventLineInvalid(ContractError):
    """A terminated line of an event log that cannot be an event (D4); `str()` is the reason, short and stable."""


class SecretReferenceInvalid(ContractError):
    """A reference to a secret that is neither `env:NAME` nor `file:PATH`. Never holds the value itself."""


class IntentInvalid(ContractError):
    """A control intent that is refused before anything is done; `str()` says why and what to send instead."""


def error_body(code: ErrorCode, message: str, **fields: Any) -> dict[str, Any]:
    """The exact error body for `code`; `fields` are additive members of `error` (current counts, chain, values)."""
    return {"ok": False, "error": {"code": code.value, "message": message, **fields}}

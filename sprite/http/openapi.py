"""The service's OpenAPI 3.1 document, made of the table of operations and the contract's models."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from contract.envelopes import MAX_CHAINS, SCHEMA_VERSION
from contract.errors import HTTP_STATUS, ErrorBody, ErrorCode
from sprite.http.operations import ALWAYS_POSSIBLE, OPERATIONS, Operation

_SCHEMAS = "#/components/schemas/{model}"
_COUNT = {"type": "integer", "minimum": 0}

_PARAMETERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "key": ("path", {"type": "string"}, "The idempotency key."),
    "loopId": ("query", {"type": "string", "minLength": 1, "maxLength": 128}, "The loop."),
    "cursor": ("query", {**_COUNT, "default": 0}, "Lines consumed: events after this one are wanted."),
    "maxEvents": ("query", {**_COUNT, "default": 0}, "At most so many; 0: as many as a page holds."),
    "chain": ("query", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "The hash chain at the cursor."),
    "rehash": ("query", {"enum": ["true", "false"], "default": "false"}, "Hash the whole log again before."),
    "chainAt": (
        "query",
        {"type": "string", "pattern": f"^[0-9]{{1,15}}(,[0-9]{{1,15}}){{0,{MAX_CHAINS - 1}}}$"},
        "The chains at these lines are wanted, too.",
    ),
    "snapshotEtag": ("query", {"type": "string"}, "With waitSeconds: another snapshot than this one is news, too."),
    "waitSeconds": ("query", {"type": "number", "minimum": 0}, "Wait for news; at most 25."),
    "If-None-Match": ("header", {"type": "string"}, "The ETag of a snapshot that need not be sent again."),
    "X-Trace-Id": ("header", {"type": "string", "maxLength": 128}, "Comes back as traceId."),
    "traceparent": ("header", {"type": "string"}, "W3C trace context: its trace id, where X-Trace-Id names none."),
    "X-Idempotency-Key": ("header", {"type": "string", "maxLength": 200}, "The key, where the body names none."),
    "Idempotency-Key": ("header", {"type": "string", "maxLength": 200}, "The same."),
}
_REQUIRED = ("key", "loopId")


@functools.cache
def openapi_document() -> dict[str, Any]:
    """The document; always the same object."""
    _, definitions = models_json_schema([(model, "validation") for model in _models()], ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Superloop sprite service",
            "version": SCHEMA_VERSION,
            "description": "Envelopes and control of the loops in one repo. Every answer has an X-Sprite-Id.",
        },
        "security": [{"bearer": []}, {"opsToken": []}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "opsToken": {"type": "apiKey", "in": "header", "name": "X-Ops-Token"},
            },
        },
    }


def _models() -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {ErrorBody.__name__: ErrorBody}
    for operation in OPERATIONS:
        for model in (operation.body, *operation.answers.values()):
            if isinstance(model, type):
                found[model.__name__] = model
    return list(found.values())


def _operation(operation: Operation) -> dict[str, Any]:
    names = [*(["key"] if "{key}" in operation.path else []), *operation.query, *operation.headers]
    described: dict[str, Any] = {
        "operationId": operation.endpoint,
        "summary": operation.summary,
        "parameters": [_parameter(name) for name in names],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _json(_reference(operation.body))}
    return described


def _parameter(name: str) -> dict[str, Any]:
    place, schema, text = _PARAMETERS[name]
    return {"name": name, "in": place, "required": name in _REQUIRED, "schema": schema, "description": text}


def _responses(operation: Operation) -> dict[str, Any]:
    codes: dict[int, list[ErrorCode]] = {}
    for code in (*ALWAYS_POSSIBLE, *operation.refusals):
        codes.setdefault(HTTP_STATUS[code], []).append(code)
    statuses = sorted({*operation.answers, *codes})
    return {str(status): _response(operation, status, codes.get(status, [])) for status in statuses}


def _response(operation: Operation, status: int, codes: list[ErrorCode]) -> dict[str, Any]:
    answer = operation.answers.get(status)
    described = ["what was asked for"] if status in operation.answers else []
    response: dict[str, Any] = {"description": " or ".join([*described, *(code.value for code in codes)])}
    schemas = [_reference(answer)] if isinstance(answer, type) else []
    schemas += [_reference(ErrorBody)] if codes else []
    if schemas:
        response["content"] = _json(schemas[0] if len(schemas) == 1 else {"anyOf": schemas})
    elif isinstance(answer, str):
        response["content"] = {answer: {}}
    return response


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _SCHEMAS.format(model=model.__name__)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}

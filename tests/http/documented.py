"""Every answer that a test gets is compared with the service's own OpenAPI document."""

import functools
import json
import re
from typing import Any

import httpx
from openapi_schema_validator import OAS31Validator

from sprite.http.openapi import openapi_document

_MAX_BYTES = 64 * 1024
"""Larger answers differ from smaller ones by their length only, and comparing them takes long."""


def documented_operation(request: httpx.Request) -> dict[str, Any] | None:
    """The operation that a request asks for; None when the document has none for it."""
    for path, operations in openapi_document()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", ".+", path), request.url.path):
            operation: dict[str, Any] | None = operations.get(request.method.lower())
            return operation
    return None


async def check_documented(response: httpx.Response) -> None:
    """Fail unless the document tells of the answer; an event hook of httpx."""
    operation = documented_operation(response.request)
    if operation is None:
        return
    where = f"{response.request.method} {response.request.url.path}"
    assert str(response.status_code) in operation["responses"], f"{where} answered {response.status_code}"
    content = operation["responses"][str(response.status_code)].get("content", {})
    body = await response.aread()
    if not content:
        assert not body, where
        return
    kinds = [kind.replace(" ", "") for kind in content]
    assert response.headers["content-type"].replace(" ", "") in kinds, where
    schema = content.get("application/json", {}).get("schema")
    if schema is not None and len(body) <= _MAX_BYTES:
        validator(json.dumps(schema)).validate(json.loads(body))


@functools.cache
def validator(schema: str) -> OAS31Validator:
    """The validator of a schema of the document, which may refer to its components."""
    return OAS31Validator({**json.loads(schema), "components": openapi_document()["components"]})

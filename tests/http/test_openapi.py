"""The OpenAPI document is valid and true: what it says is asked and answered, and nothing else.

Besides these, every answer of every other test of the service is compared with it (tests.http.documented).
"""

import json
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from starlette.datastructures import Headers, QueryParams

from contract.control import ControlRequest
from contract.errors import ContractError
from sprite.http.openapi import openapi_document
from sprite.http.operations import OPERATIONS, Operation
from tests.http.documented import validator
from tests.http.support import Service

CONTROL_BODIES: list[tuple[dict[str, Any], bool]] = [
    ({"loopId": "demo", "intent": "approve"}, True),
    ({"loopId": "demo", "intent": "APPROVE_PENDING", "by": "ana", "note": None, "expect": None}, True),
    ({"loopId": "demo", "intent": "cancel", "noConfirm": True, "expect": {"runId": "R1", "iteration": 3}}, True),
    ({"loopId": "demo", "intent": "reject", "expect": {"approvalSha256": "0" * 8}}, True),
    ({"loopId": "demo"}, False),
    ({"intent": "approve"}, False),
    ({"loopId": "demo", "intent": "pause"}, False),
    ({"loopId": "demo", "intent": "approve", "noConfirm": None}, False),
    ({"loopId": "demo", "intent": "approve", "noConfirm": "true"}, False),
    ({"loopId": "demo", "intent": "approve", "expect": {"runId": None}}, False),
    ({"loopId": "demo", "intent": "approve", "expect": {"runID": "R1"}}, False),
    ({"loopId": "demo", "intent": "approve", "expect": {"approvalSha256": "0" * 7}}, False),
    ({"loopId": "demo", "intent": "approve", "expct": {}}, False),
]


async def test_service_offers_the_document_of_its_routes(shared: Service) -> None:
    document = (await shared.get("/openapi.json")).json()

    validate(document)
    assert document == openapi_document()


@pytest.mark.parametrize(("body", "taken"), CONTROL_BODIES)
def test_control_request_is_taken_exactly_where_the_document_allows_it(body: dict[str, Any], taken: bool) -> None:
    schema = json.dumps({"$ref": "#/components/schemas/ControlRequest"})

    assert validator(schema).is_valid(body) is taken
    try:
        ControlRequest.read(body)
        refused = False
    except ContractError:
        refused = True
    assert refused is not taken


def test_validator_of_these_tests_sees_a_wrong_answer() -> None:
    schema = json.dumps({"$ref": "#/components/schemas/SnapshotEnvelope"})

    assert isinstance(validator(schema), OAS31Validator)
    assert not validator(schema).is_valid({"schemaVersion": "v2"})


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
async def test_parameters_that_are_read_are_the_documented_ones(
    shared: Service, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    read: dict[str, set[str]] = {"query": set(), "header": set()}

    def recording(kind: Any, place: str) -> None:
        original = kind.get

        def get(self: Any, name: str, *default: Any) -> Any:
            read[place].add(name.lower())
            return original(self, name, *default)

        monkeypatch.setattr(kind, "get", get)

    recording(QueryParams, "query")
    recording(Headers, "header")
    body = {"loopId": "demo", "intent": "approve", "expect": {"runId": "R0"}} if operation.body else None
    await _ask(shared, operation, body)

    assert read["query"] == {name.lower() for name in operation.query}
    framing = {"content-length", "expect"}
    assert read["header"] - framing == {name.lower() for name in operation.headers}


async def _ask(service: Service, operation: Operation, body: object) -> httpx.Response:
    path = operation.path.replace("{key}", "k")
    return await service.client.request(
        operation.method,
        path,
        params={"loopId": "demo"} if operation.query else None,
        content=json.dumps(body) if body else None,
        headers={"X-Ops-Token": "test-token"},
    )


def test_every_status_of_an_operation_has_its_meaning_in_the_document() -> None:
    document = openapi_document()
    control = document["paths"]["/ops/control"]["post"]["responses"]

    assert set(control) == {"200", "400", "401", "408", "409", "412", "413", "422", "500", "502", "503"}
    assert control["412"]["description"] == "precondition_failed or nothing_to_cancel or other_loop_active"
    assert document["paths"]["/ops/events"]["get"]["responses"]["409"]["description"] == (
        "cursor_ahead or events_rewritten"
    )

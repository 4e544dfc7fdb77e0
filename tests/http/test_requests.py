"""Every request gets the exact answer: who may ask, how to ask, and what is wrong with a question."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.envelopes import EventsPage, LoopsPage, SnapshotEnvelope
from tests.control.support import effects
from tests.http.support import BEARER, TOKEN, Service

ENDPOINTS = ["/healthz", "/readyz", "/ops/snapshot?loopId=demo", "/ops/events?loopId=demo", "/ops/loops", "/nowhere"]


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert body["ok"] is False
    return response.status_code, body["error"]["code"], body["error"]["message"]


@pytest.mark.parametrize("path", [*ENDPOINTS, "/ops/control/k?loopId=demo", "/metrics", "/openapi.json"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"X-Ops-Token": ""},
        {"X-Ops-Token": f"{TOKEN}x"},
        {"X-Ops-Token": "töken"},
    ],
)
async def test_every_endpoint_without_the_token_is_unauthorized(
    shared: Service, path: str, headers: dict[str, str]
) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    response = await shared.client.get(path, headers=encoded)  # type: ignore[arg-type]

    assert error_of(response) == (401, "unauthorized", "missing or invalid token")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bearer  {TOKEN}"},
        {"X-Ops-Token": TOKEN},
        {"X-Ops-Token": TOKEN, "Authorization": "Bearer of-the-edge"},
        {"X-Ops-Token": "wrong", "Authorization": f"Bearer {TOKEN}"},
    ],
)
async def test_either_header_alone_is_enough(shared: Service, headers: dict[str, str]) -> None:
    response = await shared.client.get("/healthz", headers=headers)

    assert response.status_code == 200
    assert response.json()["ok"] is True


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_every_answer_names_the_sprite(shared: Service, path: str) -> None:
    response = await shared.get(path)

    assert response.headers["x-sprite-id"] == shared.reader.sprite_id
    assert response.json()["spriteId"] == shared.reader.sprite_id


async def test_answers_are_what_our_client_reads(shared: Service) -> None:
    snapshot = SnapshotEnvelope.read((await shared.get("/ops/snapshot?loopId=demo")).json(), loop_id="demo")
    page = EventsPage.read((await shared.get("/ops/events?loopId=demo")).json(), loop_id="demo", after_line=0)
    loops = LoopsPage.model_validate((await shared.get("/ops/loops")).json())

    assert snapshot.run.status == "awaiting_approval"
    assert [event.event.name for event in page.events] == ["loop_start"]
    assert [loop.loop_id for loop in loops.loops] == ["demo"]
    assert page.snapshot_etag


@pytest.mark.parametrize(
    ("path", "code", "status", "message"),
    [
        ("/ops/snapshot", "invalid_request", 400, "loopId is required"),
        ("/ops/snapshot?loopId=", "invalid_request", 400, "loopId is required"),
        ("/ops/events?cursor=0", "invalid_request", 400, "loopId is required"),
        ("/ops/events?loopId=demo&cursor=1.5", "invalid_request", 400, "query parameter 'cursor' must be an integer"),
        ("/ops/events?loopId=demo&cursor=", "invalid_request", 400, "query parameter 'cursor' must be an integer"),
        (
            "/ops/events?loopId=demo&cursor=%D9%A1",
            "invalid_request",
            400,
            "query parameter 'cursor' must be an integer",
        ),
        ("/ops/events?loopId=demo&maxEvents=-2", "invalid_request", 400, "query parameter 'maxEvents' must be >= 0"),
        (
            "/ops/events?loopId=demo&waitSeconds=-1",
            "invalid_request",
            400,
            "query parameter 'waitSeconds' must be >= 0",
        ),
        (
            "/ops/events?loopId=demo&waitSeconds=inf",
            "invalid_request",
            400,
            "query parameter 'waitSeconds' must be a number of seconds",
        ),
        (
            "/ops/events?loopId=demo&chain=xyz",
            "invalid_request",
            400,
            "query parameter 'chain' must be 64 lower-case hex digits",
        ),
        ("/ops/control/k", "invalid_request", 400, "loopId is required"),
        ("/nowhere", "not_found", 404, "endpoint not found"),
        ("/ops/snapshot/", "not_found", 404, "endpoint not found"),
        ("/", "not_found", 404, "endpoint not found"),
        ("/ops/control", "method_not_allowed", 405, "method GET is not allowed for this endpoint"),
    ],
)
async def test_wrong_question_is_told_what_is_wrong(
    shared: Service, path: str, code: str, status: int, message: str
) -> None:
    assert error_of(await shared.get(path)) == (status, code, message)


async def test_wrong_method_names_the_right_one(shared: Service) -> None:
    response = await shared.client.delete("/ops/snapshot?loopId=demo", headers=BEARER)

    assert error_of(response)[:2] == (405, "method_not_allowed")
    assert "GET" in response.headers["allow"]


async def test_unknown_loop_and_loop_without_events_are_told_apart(service: Service, repo: Path) -> None:
    (repo / ".superloop/loops/fresh").mkdir()
    for path in ("/ops/snapshot?loopId={}", "/ops/events?loopId={}", "/ops/events?loopId={}&waitSeconds=20"):
        assert error_of(await service.get(path.format("nope")))[:2] == (404, "loop_not_found")
        not_ready = await service.get(path.format("fresh"))
        assert error_of(not_ready)[:2] == (503, "not_ready")
        assert int(not_ready.headers["retry-after"]) > 0


async def test_unreadable_artifact_is_a_runtime_error(service: Service, repo: Path) -> None:
    (repo / ".superloop/state.json").write_text("{")

    status, code, message = error_of(await service.get("/ops/snapshot?loopId=demo"))

    assert (status, code) == (502, "runtime_error")
    assert "state.json" in message


async def test_unknown_query_parameters_are_ignored(shared: Service) -> None:
    response = await shared.get("/ops/events?loopId=demo&cursor=0&token=x&follow=true")

    assert response.status_code == 200


BAD_LOOP_IDS = ["../../etc", "a/b", "a\\b", "..", "-rf", "--help", "a\x00b", "a\nb", "x" * 129, " demo", "é" * 128]


@pytest.mark.parametrize("loop_id", BAD_LOOP_IDS)
async def test_d11_loop_id_that_must_not_be_used_is_refused_and_nothing_is_read_or_written(
    shared: Service, loop_id: str
) -> None:
    before = sorted(shared.reader.repo.parent.rglob("*"))
    gets = [
        await shared.client.get(path, params={"loopId": loop_id}, headers=BEARER)
        for path in ("/ops/snapshot", "/ops/events", "/ops/control/k")
    ]
    posts = [
        await shared.control({"loopId": loop_id, "intent": intent, "idempotencyKey": "k", "noConfirm": True})
        for intent in ("cancel", "approve", "reject")
    ]

    for response in [*gets, *posts]:
        assert error_of(response)[:2] == (400, "invalid_request")
    assert effects(shared.controller.binary) == []
    assert sorted(shared.reader.repo.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"this is not json", "invalid_json", "request body must be valid JSON"),
        (b"\xff\xfe", "invalid_json", "request body must be valid JSON"),
        (b'{"loopId": NaN}', "invalid_json", "request body must be valid JSON"),
        (b"[" * 30_000, "invalid_json", "request body must be valid JSON"),
        (b"[1, 2]", "invalid_request", "request body must be an object"),
        (b"", "invalid_request", "loopId is required"),
        (b"null", "invalid_request", "loopId is required"),
        (b'{"intent":"approve"}', "invalid_request", "loopId is required"),
        (b'{"loopId":7,"intent":"approve"}', "invalid_request", "loopId must be a string, not int"),
        (b'{"loopId":"demo"}', "invalid_request", "intent must be cancel, approve, or reject"),
        (b'{"loopId":"demo","intent":"pause"}', "invalid_request", "intent must be cancel, approve, or reject"),
        (b'{"loopId":"a","loopId":"b"}', "invalid_request", "request body must not name a field twice"),
    ],
)  # fmt: skip
async def test_control_request_that_cannot_be_read_is_told_why(
    shared: Service, body: bytes, code: str, message: str
) -> None:
    assert error_of(await shared.control(body)) == (400, code, message)
    assert effects(shared.controller.binary) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"expct": {"runId": "R0"}}, "did you mean 'expect'?"),
        ({"expect": {"runid": "R0"}}, "did you mean 'runId'?"),
        ({"noConfirm": "true"}, "noConfirm should be a valid boolean"),
        ({"noConfirm": 1}, "noConfirm should be a valid boolean"),
        ({"noConfirm": None}, "noConfirm should be a valid boolean"),
        ({"expect": {"runId": None}}, "expect.runId must not be null: leave out what is not expected"),
        ({"expect": {"iteration": 3, "approvalSha256": None}}, "expect.approvalSha256 must not be null"),
        ({"by": ""}, "by must name who asks"),
        ({"by": "a\nb"}, "by must not contain control characters"),
        ({"note": "x" * 4_001}, "note has 4001 characters"),
        ({"note": "a\x00b"}, "note must not contain control characters"),
        ({"idempotencyKey": "k" * 201}, "idempotencyKey must be 1 to 200 printable ASCII characters"),
        ({"traceId": "x" * 129}, "traceId must be 1 to 128 visible ASCII characters"),
        ({"traceId": "a\nb"}, "traceId must be 1 to 128 visible ASCII characters"),
    ],
)
async def test_control_field_that_is_wrong_is_refused_before_anything_is_done(
    shared: Service, fields: dict[str, Any], told: str
) -> None:
    status, code, message = error_of(await shared.control({"loopId": "demo", "intent": "approve", **fields}))

    assert (status, code) == (400, "invalid_request")
    assert told in message
    assert effects(shared.controller.binary) == []


async def test_explicit_nulls_of_peers_count_as_left_out(service: Service) -> None:
    body = {"loopId": "demo", "intent": "approve", "note": None, "traceId": None, "expect": None, "noConfirm": True}

    response = await service.control({**body, "idempotencyKey": None})

    assert response.status_code == 200


@pytest.mark.parametrize("header", ["X-Idempotency-Key", "Idempotency-Key"])
async def test_idempotency_key_may_come_as_a_header(service: Service, runtime: Path, header: str) -> None:
    body = {"loopId": "demo", "intent": "approve", "noConfirm": True}
    first = await service.control(body, **{header: "k-1"})
    again = await service.control({**body, "idempotencyKey": "k-1"})

    assert first.json()["result"]["idempotencyKey"] == "k-1"
    assert (first.json()["replayed"], again.json()["replayed"]) == (False, True)
    assert len(effects(runtime)) == 1


async def test_idempotency_key_of_the_body_wins_over_the_header(service: Service) -> None:
    body = {"loopId": "demo", "intent": "approve", "noConfirm": True, "idempotencyKey": "body"}

    response = await service.control(body, **{"Idempotency-Key": "header"})

    assert response.json()["result"]["idempotencyKey"] == "body"


async def test_idempotency_key_of_a_header_is_checked_as_well(shared: Service) -> None:
    response = await shared.control({"loopId": "demo", "intent": "approve"}, **{"Idempotency-Key": "k" * 201})

    assert error_of(response)[:2] == (400, "invalid_request")
    assert effects(shared.controller.binary) == []


async def test_trace_id_comes_from_header_traceparent_or_body(service: Service) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    path = "/ops/snapshot?loopId=demo"
    assert (await service.get(path, **{"X-Trace-Id": "t-1"})).json()["traceId"] == "t-1"
    assert (await service.get(path, traceparent=parent)).json()["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert (await service.get(path, traceparent="garbage")).json()["traceId"] is None

    body = {"loopId": "demo", "intent": "approve", "noConfirm": True, "traceId": "t-2"}
    answer = (await service.control(body, **{"X-Trace-Id": "t-1"})).json()
    assert (answer["traceId"], answer["result"]["traceId"]) == ("t-2", "t-2")


@pytest.mark.parametrize("trace_id", ["x" * 129, "two words"])
async def test_trace_id_that_does_not_fit_a_log_line_is_refused(shared: Service, trace_id: str) -> None:
    response = await shared.get("/ops/snapshot?loopId=demo", **{"X-Trace-Id": trace_id})

    assert error_of(response)[:2] == (400, "invalid_request")


async def test_record_of_a_key_can_be_looked_up(service: Service) -> None:
    key = "a key/with?odd%characters"
    path = "/ops/control/" + "".join(f"%{byte:02X}" for byte in key.encode())
    assert error_of(await service.get(f"{path}?loopId=demo"))[:2] == (404, "not_found")
    done = await service.control({"loopId": "demo", "intent": "approve", "noConfirm": True, "idempotencyKey": key})

    known = await service.get(f"{path}?loopId=demo")

    assert known.status_code == 200
    assert known.json() == {**done.json(), "replayed": True}


async def test_unknown_key_is_told_apart_from_an_unknown_endpoint(shared: Service) -> None:
    body = (await shared.get("/ops/control/k?loopId=demo")).json()

    assert (body["error"]["code"], body["error"]["key"], body["error"]["loopId"]) == ("not_found", "k", "demo")


async def test_refusals_of_control_carry_the_current_values_and_say_no_effect(service: Service, runtime: Path) -> None:
    cancel = await service.control({"loopId": "demo", "intent": "cancel"})
    expect = await service.control({"loopId": "demo", "intent": "approve", "expect": {"runId": "R0"}})
    await service.control({"loopId": "demo", "intent": "approve", "idempotencyKey": "k", "noConfirm": True})
    reused = await service.control({"loopId": "demo", "intent": "reject", "idempotencyKey": "k"})

    assert error_of(cancel)[:2] == (412, "nothing_to_cancel")
    assert error_of(expect)[:2] == (412, "precondition_failed")
    assert error_of(reused)[:2] == (422, "key_reused")
    assert expect.json()["error"]["current"]["runId"] == "R1"
    for response in (cancel, expect, reused):
        assert "no effect" in response.json()["error"]["message"]
    assert len(effects(runtime)) == 1


async def test_failed_command_keeps_its_status_when_it_is_replayed(service: Service, runtime: Path) -> None:
    runtime.write_text(runtime.read_text() + "\nexit 1\n")
    body = {"loopId": "demo", "intent": "approve", "idempotencyKey": "k"}

    first, again = await service.control(body), await service.control(body)

    assert (first.status_code, again.status_code) == (500, 500)
    assert (first.json()["replayed"], again.json()["replayed"]) == (False, True)
    assert "error" not in first.json()


async def test_readiness_fails_when_the_runtime_cannot_be_started_any_more(service: Service, runtime: Path) -> None:
    assert (await service.get("/readyz")).status_code == 200
    runtime.chmod(0o644)

    response = await service.get("/readyz")

    assert error_of(response)[:2] == (503, "not_ready")
    assert (await service.get("/healthz")).status_code == 200


async def test_readiness_fails_when_nothing_could_be_recorded_any_more(service: Service, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "state")

    status, code, message = error_of(await service.get("/readyz"))

    assert (status, code) == (503, "not_ready")
    assert "record of control requests" in message
    lost = error_of(await service.control({"loopId": "demo", "intent": "approve", "noConfirm": True}))
    assert lost[:2] == (502, "runtime_error")
    assert lost[2].startswith("no effect: ")
    assert error_of(await service.get("/ops/control/k?loopId=demo"))[:2] == (502, "runtime_error")


async def test_unexpected_error_shows_the_contracts_body_and_nothing_of_the_inside(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise ZeroDivisionError("inside knowledge")

    monkeypatch.setattr(service.reader, "snapshot", fail)

    response = await service.get("/ops/snapshot?loopId=demo")

    assert error_of(response)[:2] == (502, "runtime_error")
    assert "inside" not in json.dumps(response.json())

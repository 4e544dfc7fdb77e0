"""What must not travel on: encoded bodies, cookies, and above all our own token, whoever repeats it."""

import gzip
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from activities.client import SpriteServiceClient
from activities.failures import Condition, InvalidAnswer, NoAnswer, TransportFailure
from contract.observation import CursorPosition
from tests.activities.support import TOKEN_VARIABLE, append, event_line, http_answer, raw_server, target
from tests.peers import BasePeer, Fault


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
async def test_an_encoded_answer_is_refused_undecoded_because_a_few_bytes_may_unfold_to_anything(
    encoding: str, client: SpriteServiceClient, peer: BasePeer
) -> None:
    await client.snapshot(target(peer))
    content = json.dumps(peer.answer(peer.requests[-1])[1]).encode()
    for _ in encoding.split(","):
        content = gzip.compress(content)
    async with raw_server(http_answer(200, content, Content_Encoding=encoding)) as url:
        with pytest.raises(InvalidAnswer, match=f"'{encoding}', which was not asked for"):
            await client.snapshot(target(service_url=url))


async def test_an_encoded_answer_to_a_command_leaves_it_unknown(client: SpriteServiceClient) -> None:
    async with raw_server(http_answer(200, gzip.compress(b"{}"), Content_Encoding="gzip")) as url:
        answer = await client.control(target(service_url=url), {"intent": "cancel"}, key="k", trace_id="t")
    assert (answer.body, answer.refusal) == (None, None)


async def test_what_one_sprite_sets_as_a_cookie_reaches_neither_another_nor_itself(client: SpriteServiceClient) -> None:
    asked: list[bytes] = []
    sweet = http_answer(200, {}, Set_Cookie="session=secret-of-a; Path=/")
    async with raw_server(sweet, asked=asked) as one, raw_server(sweet, asked=asked) as other:
        for url in (one, one, other):
            with pytest.raises(InvalidAnswer):
                await client.snapshot(target(service_url=url), patient=False)
    assert len(asked) == 3
    assert not any(b"cookie" in head.lower() for head in asked)


async def test_no_message_and_no_log_line_ever_holds_the_token(
    client: SpriteServiceClient, peer: BasePeer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(TOKEN_VARIABLE, "hunter2-token")
    told = []
    for fault in (None, Fault.GARBAGE, Fault.DROP, Fault.BAD_GATEWAY_PAGE):
        peer.fault = fault
        with pytest.raises((TransportFailure, Condition)) as failure:
            await client.snapshot(target(peer))
        told.append("".join(traceback.format_exception(failure.value)))
    assert "hunter2" not in "".join(told)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("activities")]
    assert not any("hunter2" in message for message in ours)


SAID = {"error": {"code": "nope", "message": "who is test-token or Bearer edge-secret?", "test-token": ["edge-secret"]}}


@pytest.mark.parametrize(
    "answer",
    [
        (401, SAID),
        (404, SAID),
        (502, SAID),
        (302, b"", "http://test-token.example.net/"),
        (200, b"test-token"),
    ],
)
async def test_a_token_that_the_service_repeats_is_in_no_failure(
    answer: Any, client: SpriteServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SECRET", "edge-secret")
    status, body, *location = answer
    async with raw_server(http_answer(status, body, **({"Location": location[0]} if location else {}))) as url:
        with pytest.raises((Condition, TransportFailure)) as failed:
            await client.snapshot(target(service_url=url, edge_auth="env:EDGE_SECRET"), patient=False)
    told = str(failed.value)
    assert "test-token" not in told
    assert "edge-secret" not in told


async def test_a_token_in_place_of_an_http_answer_is_in_no_failure(client: SpriteServiceClient) -> None:
    async with raw_server(b"HTTP/1.1 test-token\r\n\r\n") as url:
        with pytest.raises(NoAnswer, match="broke") as failed:
            await client.snapshot(target(service_url=url), patient=False)
    assert "test-token" not in str(failed.value)


async def test_a_token_that_a_command_prints_is_hidden_in_its_answer(client: SpriteServiceClient) -> None:
    body = {"ok": True, "exitCode": 0, "result": {"commandOutput": "x test-token y", "argv": ["test-token"]}}
    async with raw_server(http_answer(200, body)) as url:
        sent = await client.control(target(service_url=url), {}, key="k", trace_id="t")
        looked = await client.stored_control(target(service_url=url), "k")
    for answer in (sent, looked):
        assert answer.body == {**body, "result": {"commandOutput": "x [hidden] y", "argv": ["[hidden]"]}}


async def test_a_page_that_holds_the_token_is_left_as_it_is_because_it_is_hashed(
    client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    append(repo, event_line("role_start", message="test-token"))
    page = await client.events(target(peer), CursorPosition(line=33), max_events=5)
    assert page.events[0].event.raw["message"] == "test-token"

"""A sprite service of the base contract and nothing more, as somebody else would write it.

Behaves as the recorded exchanges show: HTTP/1.0, whole pages, 502 for whatever goes wrong, a key's first answer handed
back whatever is asked next, and it cancels whichever loop runs. Shares no code with `sprite/`. Faults can be switched
on, and the service can be stopped and started again at its address.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.base_envelopes import RuntimeFailed, event, event_lines, now, snapshot
from tests.loopback import LoopbackService, QuietHandler

TOKEN = "test-token"


class Fault(StrEnum):
    """What the service does instead of answering."""

    HANG = "hang"
    """Accepts, reads the request and stays silent."""
    GARBAGE = "garbage"
    WRONG_SCHEMA = "wrong_schema"
    TOO_MANY = "too_many"
    BAD_GATEWAY_PAGE = "bad_gateway_page"
    CUT = "cut"
    """Ends the connection in the middle of the body."""
    DROP = "drop"
    """Ends the connection without an answer."""
    REDIRECT = "redirect"
    EXECUTE_AND_DROP = "execute_and_drop"
    """Does what was asked, then ends the connection without an answer."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def query(self) -> dict[str, str]:
        """The query parameters."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def endpoint(self) -> str:
        """The path without its query."""
        return urlsplit(self.path).path


@dataclass
class BasePeer(LoopbackService):
    """The service over one repo.

    `skips_bad_lines`: leaves lines out that are no events, instead of failing on them. `event_delay_s`: what each event
    of a page takes; the recorded service needs 0.225. `etag`: what something between it and the client adds to a
    snapshot. `fault` strikes the requests that are `faulty`.
    """

    repo: Path
    token: str = TOKEN
    runtime: Path | None = None
    skips_bad_lines: bool = False
    event_delay_s: float = 0.0
    etag: str | None = None
    fault: Fault | None = None
    faulty: Callable[[Seen], bool] = lambda seen: True
    redirect_to: str = ""
    requests: list[Seen] = field(default_factory=list)
    _answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens, or would."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def handler(self) -> type[QuietHandler]:
        """See base class."""
        return _Handler

    def asked(self, endpoint: str) -> list[Seen]:
        """The requests to one endpoint so far."""
        return [seen for seen in list(self.requests) if seen.endpoint == endpoint]

    def answer(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        """Status and body for a request."""
        given = seen.headers.get("x-ops-token"), seen.headers.get("authorization")
        if given[0] != self.token and given[1] != f"Bearer {self.token}":
            return _error(401, "unauthorized", "missing or invalid token")
        trace_id = seen.headers.get("x-trace-id")
        try:
            match seen.method, seen.endpoint:
                case "GET", "/healthz":
                    return 200, {"ok": True}
                case "GET", "/ops/snapshot":
                    return 200, snapshot(self.repo, _loop_id(seen.query), trace_id)
                case "GET", "/ops/events":
                    return 200, self._events(seen.query, trace_id)
                case "POST", "/ops/control":
                    return self._control(seen.body, trace_id)
        except ValueError as error:
            return _error(400, "invalid_request", str(error))
        except RuntimeFailed as error:
            return _error(502, "runtime_error", str(error))
        return _error(404, "not_found", "endpoint not found")

    def _events(self, query: Mapping[str, str], trace_id: str | None) -> dict[str, Any]:
        loop_id, cursor, limit = _loop_id(query), _number(query, "cursor"), _number(query, "maxEvents")
        lines = event_lines(self.repo, loop_id)
        if cursor > len(lines):
            message = f"error: cursor offset ({cursor}) exceeds available events ({len(lines)}); "
            raise RuntimeFailed(message + "reset cursor or use --from-start")
        last = min(len(lines), cursor + limit) if limit else len(lines)
        events = []
        for number in range(cursor + 1, last + 1):
            try:
                raw = json.loads(lines[number - 1])
            except ValueError:
                if self.skips_bad_lines:
                    continue
                raise RuntimeFailed("jq: error: Invalid literal") from None
            events.append(event(self.repo, loop_id, raw, number, len(lines), trace_id))
        self.hang_up(self.event_delay_s * len(events))
        page: dict[str, Any] = {"ok": True, "schemaVersion": "v1"}
        if trace_id:
            page["traceId"] = trace_id
        page["source"] = {"repoPath": str(self.repo), "loopId": loop_id}
        page["events"] = events
        page["cursor"] = {"eventLineOffset": last, "eventLineCount": len(lines), "updatedAt": now()}
        return page

    def _control(self, body: Any, trace_id: str | None) -> tuple[int, dict[str, Any]]:
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise ValueError("request body must be an object")
        loop_id, intent = _loop_id(body), body.get("intent")
        if intent not in ("cancel", "approve", "reject"):
            raise ValueError("intent must be cancel, approve, or reject")
        key = body.get("idempotencyKey") or f"{intent}-{time.time_ns()}"
        if key in self._answers:
            return 200, {**self._answers[key], "replayed": True}
        answer = self._execute(loop_id, intent, body, key, trace_id or "generated")
        self._answers[key] = answer
        return (200 if answer["ok"] else 500), answer

    def _execute(self, loop_id: str, intent: str, body: Mapping[str, Any], key: str, trace_id: str) -> dict[str, Any]:
        by = body.get("by") or "ops-service"
        arguments = ["cancel", "--repo", str(self.repo)]
        if intent != "cancel":
            arguments = ["approve", "--repo", str(self.repo), "--loop", loop_id, "--by", by]
            arguments += ["--reject"] if intent == "reject" else []
            arguments += ["--note", body["note"]] if body.get("note") else []
        done = subprocess.run([str(self.runtime), *arguments], capture_output=True, text=True, check=False, timeout=30)
        exit_code = done.returncode
        result = {
            "timestamp": now(),
            "loopId": loop_id,
            "intent": intent,
            "traceId": trace_id,
            "requestedBy": by,
            "transport": "local",
            "status": "executed_unconfirmed" if exit_code == 0 else "failed_command",
            "command": " ".join(["superloop.sh", *arguments]),
            "idempotencyKey": key,
            "exitCode": exit_code,
            "confirmExitCode": 0,
            "confirmed": False,
            "commandOutput": (done.stdout + done.stderr).strip(),
        }
        return {
            "ok": exit_code == 0,
            "exitCode": exit_code,
            "result": result,
            "replayed": False,
            "traceId": trace_id,
        }


@contextmanager
def base_peer(repo: Path, **options: Any) -> Iterator[BasePeer]:
    """A started service of the base contract, stopped in the end."""
    with BasePeer(repo.resolve(), **options).running() as peer:
        yield peer


class _Handler(QuietHandler):
    server_version = "OpsManagerSpriteService/0.1"

    def do_GET(self) -> None:  # noqa: N802 - what http.server calls
        self._serve(None)

    def do_POST(self) -> None:  # noqa: N802 - what http.server calls
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._serve(json.loads(content) if content else None)
        except ValueError:
            self._send(*_error(400, "invalid_json", "request body must be valid JSON"))

    def _serve(self, body: Any) -> None:
        peer = self.server.owner
        seen = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        peer.requests.append(seen)
        if peer.fault is None or not peer.faulty(seen):
            self._send(*peer.answer(seen))
            return
        if peer.fault is Fault.HANG:
            peer.hang_up()
        elif peer.fault is Fault.EXECUTE_AND_DROP:
            peer.answer(seen)
        elif peer.fault is Fault.CUT:
            content = json.dumps(peer.answer(seen)[1]).encode()
            self._send_bytes(200, content[: len(content) // 2], length=len(content))
        elif peer.fault is Fault.WRONG_SCHEMA:
            self._send(200, {**peer.answer(seen)[1], "schemaVersion": "v2"})
        elif peer.fault is Fault.REDIRECT:
            self._send_bytes(302, b"", location=peer.redirect_to)
        elif peer.fault in _CANNED:
            self._send_bytes(*_CANNED[peer.fault])

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        self._send_bytes(status, json.dumps(body).encode())

    def _send_bytes(
        self, status: int, content: bytes, *, length: int | None = None, location: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        if location:
            self.send_header("Location", location)
        if self.server.owner.etag:
            self.send_header("ETag", self.server.owner.etag)
        self.end_headers()
        self.wfile.write(content)


_CANNED = {
    Fault.GARBAGE: (200, b'{"schemaVersion": "v1", "ev'),
    Fault.TOO_MANY: (429, b"slow down"),
    Fault.BAD_GATEWAY_PAGE: (502, b"<html>bad gateway</html>"),
}


def _error(status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"ok": False, "error": {"code": code, "message": message}}


def _loop_id(given: Mapping[str, Any]) -> str:
    loop_id = given.get("loopId")
    if not loop_id:
        raise ValueError("loopId is required")
    return str(loop_id)


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0")
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"query parameter '{name}' must be an integer") from None
    if number < 0:
        raise ValueError(f"query parameter '{name}' must be >= 0")
    return number

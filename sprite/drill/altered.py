"""An event log with one line edited or left out, shown as a service over that log would show it.

An answer that was merely changed on its way contradicts its own chain and is refused by whoever looks. This one does
not: lines, counts and chain fit each other, and a client that has read the true log is told what it would be told had
the file been rewritten (409).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contract import chain
from sprite.drill.faults import Fault, Setting

Get = Callable[[Mapping[str, str]], Awaitable[tuple[int, dict[str, Any]]]]
"""`GET /ops/events` of the true service with these parameters: status and body."""


async def altered_events(query: Mapping[str, str], get: Get, setting: Setting) -> tuple[int, dict[str, Any]]:
    """Status and body of `GET /ops/events` over the altered log."""
    cursor, limit = int(query.get("cursor") or 0), int(query.get("maxEvents") or 0)
    if "waitSeconds" in query:
        status, body = await get({**_without_chain(query), "cursor": str(_true_line(cursor, setting))})
        if status != 200:
            return status, body
    status, last, lines = await _read_all(query, get)
    if status != 200:
        return status, last
    log = _altered(lines, setting)
    links = _links(log) if last["cursor"].get("chain") else None
    if cursor > len(log) or (links and query.get("chain") and cursor and query["chain"] != links[cursor]):
        return _moved(cursor, len(log), links, last)
    end = min(len(log), cursor + limit) if limit else len(log)
    shown = [line.body for line in log[cursor:end]]
    page = {**last, "events": [body for body in shown if "event" in body]}
    if "quarantined" in last:
        page["quarantined"] = [body for body in shown if "event" not in body]
    page["cursor"] = {
        "eventLineOffset": end,
        "eventLineCount": len(log),
        "updatedAt": last["cursor"].get("updatedAt"),
        **({"chain": links[end]} if links else {}),
    }
    return 200, page


def altered_snapshot(content: bytes, setting: Setting) -> bytes:
    """The body of a snapshot that counts the lines of the altered log."""
    body = json.loads(content)
    if setting.fault is not Fault.DROP_LINE or "cursor" not in body or body["cursor"]["eventLineCount"] < setting.line:
        return content
    for part, names in (
        (body["cursor"], ("eventLineOffset", "eventLineCount")),
        (body["sequence"], ("value",)),
        (body["health"], ("eventCount",)),
        (body["artifacts"]["events"], ("lineCount",)),
    ):
        for name in names:
            part[name] -= 1
    return json.dumps(body).encode()


@dataclass(frozen=True)
class _Line:
    """A line as a page tells of it: an event envelope, or `{line, reason, h}` of one that is no event."""

    body: dict[str, Any]

    @property
    def number(self) -> int:
        return int(self.body["cursor"]["eventLineOffset"] if "event" in self.body else self.body["line"])

    @property
    def h(self) -> bytes:
        return chain.line_hash(self.body["event"]["raw"]) if "event" in self.body else bytes.fromhex(self.body["h"])

    def moved_up(self, count: int) -> _Line:
        body = copy.deepcopy(self.body)
        if "event" in body:
            body["sequence"]["value"] -= 1
            body["cursor"] = {"eventLineOffset": self.number - 1, "eventLineCount": count}
        else:
            body["line"] -= 1
        return _Line(body)

    def edited(self) -> _Line:
        body = copy.deepcopy(self.body)
        if "event" in body:
            body["event"]["message"] = body["event"]["raw"]["message"] = "this is not what the runtime wrote"
        return _Line(body)


def _without_chain(query: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if name != "chain"}


def _true_line(line: int, setting: Setting) -> int:
    return line + 1 if setting.fault is Fault.DROP_LINE and line >= setting.line else line


async def _read_all(query: Mapping[str, str], get: Get) -> tuple[int, dict[str, Any], list[_Line]]:
    lines: list[_Line] = []
    asked = {"loopId": query.get("loopId", ""), "maxEvents": "5000", "cursor": "0"}
    while True:
        status, page = await get(asked)
        if status != 200:
            return status, page, []
        told = [_Line(body) for body in [*page["events"], *page.get("quarantined", [])]]
        lines += sorted(told, key=lambda line: line.number)
        if page["cursor"]["eventLineOffset"] >= page["cursor"]["eventLineCount"]:
            return status, page, lines
        asked["cursor"] = str(page["cursor"]["eventLineOffset"])


def _altered(lines: list[_Line], setting: Setting) -> list[_Line]:
    at = setting.line - 1
    if len(lines) <= at:
        return lines
    if setting.fault is Fault.EDIT_LINE:
        return [*lines[:at], lines[at].edited(), *lines[at + 1 :]]
    return [*lines[:at], *(line.moved_up(len(lines) - 1) for line in lines[at + 1 :])]


def _links(log: list[_Line]) -> list[str]:
    """The chain at every line, from line 0."""
    links = [chain.GENESIS]
    for line in log:
        links.append(chain.extend(links[-1], line.h))
    return [link.hex() for link in links]


def _moved(cursor: int, count: int, links: list[str] | None, page: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    if links is None:
        message = f"error: cursor offset ({cursor}) exceeds available events ({count}); reset cursor"
        return 502, {"ok": False, "error": {"code": "runtime_error", "message": message}}
    code = "cursor_ahead" if cursor > count else "events_rewritten"
    error = {
        "code": code,
        "message": f"the log is not the one that was read up to line {cursor}; it has {count} lines",
        "eventLineCount": count,
        "chain": links[-1],
    }
    # Who is known to show an id has to show it here as well, or it is taken for another sprite.
    return 409, {"ok": False, "error": error, **({"spriteId": page["spriteId"]} if "spriteId" in page else {})}

"""`incident report`: one page that says what happened, needs nothing, and takes text of an agent for text."""

import asyncio
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from incidents import report
from incidents.archive import Incident
from incidents.history import Run
from incidents.summary import clock, summarize
from incidents.timeline import Told, timeline
from incidents.verify import verify
from tests.cli.ops import Ops
from tests.harness import Supervisors
from tests.incidents.day import NASTY, day
from tests.incidents.kept import kept_incident
from tests.incidents.scenes import LONG_STORY, chain_of_runs

ECHARTS = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"
"""SHA-256 of dist/echarts.min.js of echarts 6.1.0 on npm."""
_BROWSERS = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
CHROMIUM = next((found for found in _BROWSERS if found), None)
MAX_BYTES = 5_000_000
OPENED_WITHIN_MS = 2_000


class _Page(HTMLParser):
    """The elements of a page, its text, and what is in its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "onerror", "action")]

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data + "\n"

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        loaded: dict[str, Any] = json.loads(self.scripts[0])
        return loaded


async def _page(incident: Incident) -> _Page:
    return _Page(report.html(await Told.of(incident)))


def test_charting_library_is_the_one_that_is_named() -> None:
    content = files("incidents").joinpath("assets", "echarts.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == ECHARTS
    licence = files("incidents").joinpath("assets", "echarts.LICENSE.txt").read_text()
    assert "Apache License" in licence
    assert "Apache Software Foundation" in licence


async def test_page_loads_nothing_and_says_what_happened_first() -> None:
    page = await _page(kept_incident())
    assert page.links == []
    assert page.tags.count("script") == 3
    for said in (
        "In the end the loop is complete",
        "nobody is needed",
        "awaiting approval (approval_requested)",
        'ana asked APPROVE_PENDING ("looks good"): Confirmed: ana approved run',
        "unknown asked APPROVE_PENDING, 10 times",
        "While it was supervised, the loop could always be seen.",
        "Nothing is open.",
    ):
        assert said in page.text, said
    assert "decided in the sprite" not in page.text  # it was asked for from outside, and that is told
    assert page.text.index("In the end") < page.text.index("ana asked") < page.text.index("where it is written")


async def test_blind_span_is_told_with_what_was_missed() -> None:
    incident = kept_incident(names=("fallback",))
    told = await Told.of(incident)
    (blind,) = summarize(told, timeline(told)).blind
    found = re.match(r"\d\d:\d\d:\d\dZ to \d\d:\d\d:\d\dZ, (\d+ s): (\d+) events happened meanwhile", blind)
    assert found
    assert int(found[2]) > 0
    assert "Why: the sprite service: failed 3 times" in blind
    assert "cannot connect" in blind
    page = await _page(incident)
    lanes = page.data["lanes"]
    assert [bar["label"] for bar in page.data["bars"] if lanes[bar["lane"]] == "blind"] == [found[1]]


async def test_alarm_of_a_blind_span_is_told_with_it() -> None:
    told = await Told.of(kept_incident(names=("fallback",)))
    whole = timeline(told)
    (span,) = [entry for entry in whole.entries if entry.kind == "blind"]
    assert "alarm" not in summarize(told, whole).blind[0]  # the local transport took over before there was one
    alarm = span.model_copy(update={"kind": "attention", "what": "a human is needed: blind"})
    whole.entries.append(alarm)
    assert f"the alarm was raised at {span.at:%H:%M:%SZ}" in summarize(told, whole).blind[0]


async def test_place_of_an_entry_is_short_in_the_table_and_the_runs_are_named_below() -> None:
    incident = kept_incident()
    page = await _page(incident)
    assert "run 3, event " in page.text
    for number, run in enumerate(incident.runs, 1):
        assert f"run {number} is {run.run_id}" in page.text


async def test_decision_that_was_made_in_the_sprite_is_told_among_what_people_did() -> None:
    told = await Told.of(kept_incident())
    entries = timeline(told)
    told.replay.states.clear()  # as if nobody had asked for it from outside
    (decision,) = summarize(told, entries).people
    assert "ana decided in the sprite: line 75: approval_decision human approved" in decision


async def test_everything_in_the_timeline_is_in_the_page_and_can_be_found_in_history() -> None:
    incident = kept_incident()
    told = await Told.of(incident)
    entries, data = timeline(told).entries, (await _page(incident)).data
    assert [(row["what"], row["line"]) for row in data["entries"]] == [(entry.what, entry.line) for entry in entries]
    assert sorted(point["entry"] for point in data["points"]) == [
        index for index, entry in enumerate(entries) if entry.kind in ("event", "intent")
    ]
    histories = {run.run_id: len(run.events) for run in incident.runs}
    for row in data["entries"]:
        found = re.fullmatch(r"run (\S+) event (\d+)", row["place"])
        assert found, row
        assert int(found[2]) <= histories[found[1]]
    assert all(data["start"] <= bar["start"] <= bar["end"] <= data["end"] for bar in data["bars"])


async def test_text_of_an_agent_is_text_wherever_it_stands() -> None:
    incident = day(50)
    page = await _page(incident)
    assert "img" not in page.tags
    assert page.links == []
    assert any(row["why"] == NASTY for row in page.data["entries"])
    assert "\u2028" not in page.scripts[0]
    markdown = report.markdown(await Told.of(incident))
    assert "<img" not in markdown.replace("\\<", "")
    assert "\x1b" not in markdown


async def test_text_of_an_agent_does_not_turn_the_words_around_it_about() -> None:
    incident = day(50)
    incident.manifest.sprite = "ac\u202eme"
    (result,) = [seen for run in incident.runs for seen in run.activities if seen.result is not None]
    assert result.result is not None
    result.result.data = result.result.data.replace(b"**bold**", "\u202e\u2066bold".encode())
    told = await Told.of(incident)
    html = report.html(told)
    assert any("bold" in row["why"] for row in _Page(html).data["entries"])
    for page in (html, json.dumps(_Page(html).data, ensure_ascii=False), report.markdown(told)):
        assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", page)


async def test_end_that_this_version_does_not_come_to_is_not_told_as_the_end() -> None:
    incident = kept_incident(names=("cancel",))
    (run,) = incident.runs
    changed = Run.from_json(run.workflow_id, run.to_json().replace('"name": "execute_control"', '"name": "execute"'))
    told = await Told.of(Incident(incident.manifest, [changed]))
    assert list(told.replay.failures) == [run.run_id]
    whole = await Told.of(incident)
    assert 0 < len(told.replay.states) < len(whole.replay.states)
    summary = summarize(told, timeline(told))
    last = told.replay.states[-1].at
    assert summary.outcome.startswith(f"How it ended is not known: this version replays it only up to {clock(last)}. ")
    assert "In the end" not in summary.outcome
    (said,) = [sentence for sentence in summary.evidence if "does not replay" in sentence]
    assert "stack_trace" not in said
    assert len(said) < 400


async def test_day_with_five_thousand_events_fits_and_agrees_with_its_log() -> None:
    incident = day()
    (checked,) = [verify(incident.runs, log=incident.log, belief=None)]
    assert checked.agreed is True
    page = report.html(await Told.of(incident))
    assert len(page.encode()) < MAX_BYTES
    data = _Page(page).data
    assert sum(row["kind"] == "event" for row in data["entries"]) == 5_000


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
async def test_day_with_five_thousand_events_opens_in_a_browser_at_once(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report.html(await Told.of(day())))
    # The best of three: it is the page that is measured, not what else the machine does.
    opened = [await asyncio.to_thread(_open, path, tmp_path / f"profile-{attempt}") for attempt in range(3)]
    assert min(opened) < OPENED_WITHIN_MS


def _open(path: Path, profile: Path) -> int:
    """Open the page in a headless browser; the milliseconds until its script has drawn everything."""
    argv = [
        CHROMIUM or "", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
        "--dump-dom", f"file://{path}",
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    found = re.search(r'data-ready-after-ms="(\d+)"', done.stdout)
    assert found, "the page's script did not come to its end"
    assert "<img" not in done.stdout.partition("<script")[0]
    return int(found[1])


async def test_report_of_a_supervised_loop_is_written_by_the_command(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    await chain_of_runs(supervise, new_sprite(name, LONG_STORY))
    path, ticket = tmp_path / "report.html", tmp_path / "report.md"
    done = await ops("incident", "report", f"{name}/demo", "-o", str(path))
    assert done.code == 0, done
    page = _Page(path.read_text())
    assert "Agreed: epoch 1" in page.text
    assert f"{name}/demo" in page.text
    assert (await ops("incident", "report", f"{name}/demo", "--markdown", "-o", str(ticket))).code == 0
    assert ticket.read_text().startswith("# Incident ")
    assert (await ops("incident", "report", f"{name}/demo", "-o", str(tmp_path / "no" / "x.html"))).code == 4

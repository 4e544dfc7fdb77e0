"""`ops-manager incident ...`: what the manager knew, believed and did, from histories and the event log."""

from __future__ import annotations

from cli.main import LazyGroup, Place

COMMANDS = {
    "export": Place("cli.incident_export", "export", "Write histories and event log of a loop into one file."),
    "replay": Place("cli.incident_replay", "replay", "Show what was believed at an instant, and what was true."),
    "timeline": Place("cli.incident_timeline", "timeline", "Print what happened, and when it was known."),
    "report": Place("cli.incident_report", "report", "Write one page that shows what happened."),
}

incident = LazyGroup(
    "incident",
    places=COMMANDS,
    help="What happened, what was known of it, what was believed, and why something was done.",
    short_help="Export, replay and tell an incident.",
)

"""`ops-manager sprite ...`: what runs inside a sprite."""

from __future__ import annotations

from cli.main import LazyGroup, Place

COMMANDS = {
    "serve": Place("cli.sprite_serve", "sprite_serve", "Serve a repo over HTTP."),
    "snapshot": Place("cli.sprite_commands", "snapshot", "Print the snapshot envelope of a loop."),
    "events": Place("cli.sprite_commands", "events", "Print the event envelopes of a loop, one a line."),
    "chaos-proxy": Place("cli.sprite_chaos", "chaos_proxy", "For drills: answer for a service as bad networks do."),
}

sprite = LazyGroup(
    "sprite",
    places=COMMANDS,
    help="Inside a sprite: serve a repo over HTTP, or print its envelopes.",
    short_help="Inside a sprite: serve a repo, print its envelopes.",
)

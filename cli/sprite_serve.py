"""`ops-manager sprite serve`: the HTTP service of one repo, inside the sprite."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import click

from cli import paste, terminal
from cli.places import repo_doubt
from sprite.control import BINARY_VARIABLE, OBSERVED_VERSION, SpriteController, binary_version, find_binary
from sprite.errors import SpriteError
from sprite.http import (
    BindFailed,
    TokenInvalid,
    configure_logging,
    read_token_file,
    serve,
    token_warnings,
    write_new_token,
)
from sprite.reader import SpriteReader

DEFAULT_PORT = 8787


@click.command("serve")
@click.option(
    "--repo", type=click.Path(path_type=Path), metavar="PATH", help="The repo to serve: the folder with .superloop/."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file that holds the service token. There is no service without one.",
)
@click.option(
    "--new-token",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a fresh random token to a new file (mode 0600); with --repo, then serve with it.",
)
@click.option(
    "--superloop-bin",
    envvar=BINARY_VARIABLE,
    metavar="PATH",
    help=f"The runtime's program (default: ${BINARY_VARIABLE}, else superloop.sh on the PATH).",
)
def sprite_serve(
    repo: Path | None,
    host: str,
    port: int,
    token_file: Path | None,
    new_token: Path | None,
    superloop_bin: str | None,
) -> None:
    """Serve the envelopes and the control of one repo over HTTP, until stopped.

    Logs are JSON lines on stderr. SIGTERM ends the service at once, except for a command that runs: that is
    brought to its end first.
    """
    if token_file is not None and new_token is not None:
        raise click.UsageError("--token-file and --new-token exclude each other: use the file that was written before")
    try:
        if repo is not None:
            _serve(repo, host, port, token_file, new_token, superloop_bin)
        elif new_token is not None:
            _write_token(new_token)
            _say(f"next: ops-manager sprite serve --repo PATH --token-file {new_token}")
        else:
            raise click.UsageError("give --repo PATH to serve, or --new-token FILE to write a token")
    except (TokenInvalid, BindFailed) as error:
        raise click.ClickException(paste.localized(str(error))) from None
    except SpriteError as error:
        raise click.ClickException(error.message) from None


def _write_token(path: Path) -> None:
    write_new_token(path)
    _say(f"wrote a new token to {path} (mode 0600)")
    _say(f"the manager needs the same token, by reference: --token file:{path} (or a copy of that file)")


def _serve(
    repo: Path, host: str, port: int, token_file: Path | None, new_token: Path | None, superloop_bin: str | None
) -> None:
    # What may be missing comes first: a token that was written by a start that failed would be in the way of the next.
    reader = SpriteReader(repo)
    binary = find_binary(superloop_bin)
    version = binary_version(binary)
    if new_token is not None:
        _write_token(new_token)
    token_path = new_token or token_file
    if token_path is None:
        raise click.UsageError("the service does not start without a token: give --token-file FILE or --new-token FILE")
    token = read_token_file(token_path)
    for warning in [*token_warnings(token_path, token), *_warnings(reader, host, version)]:
        _say(f"warning: {warning}")
    configure_logging(sys.stderr, secrets=[token])
    _say(f"control runs {binary}, version {version}")
    controller = SpriteController(reader, binary, secrets=[token])

    def announce(url: str) -> None:
        _say(f"serving {reader.repo} on {url} (sprite {reader.sprite_id})")

    serve(reader, controller, token, host=host.strip("[]"), port=port, announce=announce)


def _warnings(reader: SpriteReader, host: str, version: str) -> list[str]:
    warnings = []
    doubt = repo_doubt(reader.repo)
    if doubt:
        warnings.append(doubt)
    if not version.startswith(f"{OBSERVED_VERSION}."):
        warnings.append(f"the runtime says version {version!r}; this service was built against {OBSERVED_VERSION}.x")
    if not _is_loopback(host):
        warnings.append(
            f"listening on {host} without TLS: the token and the control of the loops cross the network in clear text; "
            "put a TLS edge in front, or listen on 127.0.0.1"
        )
    return warnings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _say(line: str) -> None:
    terminal.say(paste.localized(line))

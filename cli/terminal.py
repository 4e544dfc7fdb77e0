"""The two streams: data on stdout, talk on stderr; colour only where a person looks.

Text that came from elsewhere (events and notes may be written by a language model) is cleaned of control characters
before it is shown, and is never read as markup.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from typing import IO

import click
from rich.console import Console, RenderableType
from rich.text import Text

_UNLIMITED = 10_000
"""Columns where nobody looks: a pipe gets whole lines."""


def columns() -> int:
    """Width of the terminal that stdout is, or no limit."""
    return shutil.get_terminal_size().columns if _is_terminal(sys.stdout) else _UNLIMITED


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def colour(stream: IO[str]) -> bool:
    """If colour may be used on `stream`: a terminal, no NO_COLOR, not TERM=dumb."""
    return _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def person_is_there() -> bool:
    """If a question can be asked: somebody types and somebody reads."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def clean(text: object) -> str:
    """`text` on one line, without characters that would move a terminal's cursor or change its colours."""
    return "".join(char if char.isprintable() else " " for char in str(text)).strip()


def text_of(renderable: RenderableType, *, width: int, coloured: bool) -> str:
    """What `renderable` looks like at that width, without trailing blanks."""
    page = io.StringIO()
    console = Console(
        file=page,
        width=width,
        force_terminal=coloured,
        color_system="standard" if coloured else None,
        no_color=not coloured,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(renderable)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def show(renderable: RenderableType) -> None:
    """Print data on stdout."""
    coloured = colour(sys.stdout)
    click.echo(text_of(renderable, width=columns(), coloured=coloured), color=coloured)


def show_line(line: Text) -> None:
    """Print one line of data, however long: a terminal wraps it, and a pipe gets it whole."""
    coloured = colour(sys.stdout)
    click.echo(text_of(line, width=_UNLIMITED, coloured=coloured), color=coloured)


def data(line: str) -> None:
    """Print one line of data, as it is, at once."""
    click.echo(line)


def say(line: str) -> None:
    """Tell the operator something."""
    click.echo(line, err=True)


def warn(line: str) -> None:
    """Tell the operator something that matters."""
    click.echo(click.style(line, fg="yellow", bold=True) if colour(sys.stderr) else line, err=True)


def say_rich(renderable: RenderableType) -> None:
    """Tell the operator something laid out."""
    coloured = colour(sys.stderr)
    width = shutil.get_terminal_size().columns if _is_terminal(sys.stderr) else _UNLIMITED
    click.echo(text_of(renderable, width=width, coloured=coloured), err=True, color=coloured)

"""Colour only where a person looks."""

import io
from typing import Any

import pytest
from rich.text import Text

from cli.terminal import colour, text_of


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_terminal_gets_colour_and_a_pipe_does_not() -> None:
    assert colour(_Terminal())
    assert not colour(io.StringIO())


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_terminal_that_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert not colour(_Terminal())


def test_empty_no_color_forbids_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert colour(_Terminal())


@pytest.mark.parametrize("coloured", [True, False])
def test_text_holds_escape_sequences_only_when_coloured(coloured: bool) -> None:
    styled: Any = Text("loud", "bold red")
    assert ("\x1b[" in text_of(styled, width=80, coloured=coloured)) is coloured

"""Tables on a terminal: made to fit, nothing cut, and understood without colours."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout

import click
import pytest

from reconciler.cli.console import Cell, Table, clean, print_table

TABLE = Table(
    ["NAME", "REASON", "MESSAGE"],
    [["base", Cell("Converged", "green"), ""], ["a-name-that-is-long", Cell("Busy", "red"), "held by " + "x" * 40]],
    text=True,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What the table is on a terminal of so many columns."""

    def show(columns: int, *, colours: bool = False) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        if not colours:
            monkeypatch.setenv("NO_COLOR", "1")
        with redirect_stdout(Terminal()) as terminal:
            print_table(TABLE)
        return terminal.getvalue()

    return show


@pytest.mark.parametrize("columns", [200, 80, 60, 30, 10])
def test_nothing_is_cut_however_narrow_the_terminal(shown: Callable[..., str], columns: int) -> None:
    said = "".join(click.unstyle(shown(columns)).split())
    assert "a-name-that-is-long" in said
    assert said.count("x") == 40


def test_side_by_side_where_it_fits_else_one_below_the_other(shown: Callable[..., str]) -> None:
    assert len(shown(100).splitlines()) == 3
    assert "REASON   Busy\n" in click.unstyle(shown(40))


def test_colours_are_for_terminals_that_want_them(shown: Callable[..., str]) -> None:
    assert "\x1b[31mBusy" in shown(100, colours=True)
    assert "\x1b[3" not in shown(100)


def test_elsewhere_it_is_plain_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TABLE)
    assert capsys.readouterr().out.splitlines() == [
        "NAME                  REASON      MESSAGE",
        "base                  Converged   -",
        "a-name-that-is-long   Busy        held by " + "x" * 40,
    ]


@pytest.mark.security("S23")
def test_text_from_programs_is_made_harmless() -> None:
    assert clean("a\x1b[31m\tb\r\nc\x07\x9b") == "a\\x1b[31m b c\\x07\\x9b"

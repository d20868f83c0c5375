"""Tables on a terminal: made to fit, nothing cut, and understood without colours."""

from __future__ import annotations

import io

import pytest

from reconciler.cli import output
from reconciler.cli.output import Cell, Table, clean, print_table

TABLE = Table(
    ["NAME", "REASON", "MESSAGE"],
    [["base", Cell("Converged", "green"), ""], ["a-name-that-is-long", Cell("Busy", "red"), "held by " + "x" * 40]],
    text=True,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    opened = Terminal()
    monkeypatch.setattr("sys.stdout", opened)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return opened


@pytest.mark.parametrize("columns", [200, 80, 60, 30, 10])
def test_nothing_is_cut_however_narrow_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(TABLE)
    said = "".join(terminal.getvalue().split())
    assert "a-name-that-is-long" in said
    assert said.count("x") == 40


def test_side_by_side_where_it_fits_else_one_below_the_other(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    print_table(TABLE)
    assert len(terminal.getvalue().splitlines()) == 3
    terminal.truncate(0)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(TABLE)
    assert "REASON   Busy\n" in output.click.unstyle(terminal.getvalue())


def test_colours_are_for_terminals_that_want_them(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    print_table(TABLE)
    assert "\x1b[31mBusy" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(TABLE)
    assert "\x1b[3" not in terminal.getvalue()


def test_elsewhere_it_is_plain_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TABLE)
    assert capsys.readouterr().out.splitlines() == [
        "NAME                  REASON      MESSAGE",
        "base                  Converged   -",
        "a-name-that-is-long   Busy        held by " + "x" * 40,
    ]


def test_text_from_programs_is_made_harmless() -> None:
    assert clean("a\x1b[31m\tb\r\nc\x07\x9b") == "a\\x1b[31m b c\\x07\\x9b"

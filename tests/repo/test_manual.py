"""share/: the manual page says what the commands say, and reads well wherever manual pages are read."""

from __future__ import annotations

import re
import shutil
import subprocess

import click
import pytest

from reconciler.cli.main import COMMANDS
from tools import manual, roff


def test_the_page_in_the_tree_is_that_of_the_commands() -> None:
    written = manual.PAGE.read_text(encoding="utf-8")
    assert written == manual.page(), "the commands or their reference have changed: run `make man`"


def test_it_has_every_command_with_every_option_and_every_section() -> None:
    page = manual.page()
    for name in COMMANDS:
        part = page.partition(f"\n.SS {name}\n")[2].partition("\n.S")[0]
        options = [option for option in manual._command(name).params if isinstance(option, click.Option)]
        assert part
        assert all(roff.bold(each) in part for option in options for each in option.opts)
        assert "Examples:" in part
    headings = re.findall(r"^\.SH (.+)$", page, re.MULTILINE)
    assert headings[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS"]
    assert headings[4:] == [*manual._SECTIONS, "SEE ALSO"]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a `b-c` d", r"a \fBb\-c\fR d"),
        ("see [that](x.md#y)", "see that"),
        ("C:\\x 'y' \"z\"", r"C:\ex \(aqy\(aq \(dqz\(dq"),
        (".profile", r"\&.profile"),
        (" ".join(["long"] * 20), " ".join(["long"] * 15) + "\n" + " ".join(["long"] * 5)),
    ],
)
def test_text_is_shown_as_it_is(text: str, source: str) -> None:
    assert roff.prose(text) == source


@pytest.mark.parametrize(
    "reader",
    [
        ("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"),
        # Longer lines of source are a matter of style.
        ("mandoc", "-T", "lint", "-W", "warning"),
    ],
    ids=lambda reader: str(reader[0]),
)
def test_readers_have_nothing_to_say_against_it(reader: tuple[str, ...]) -> None:
    if shutil.which(reader[0]) is None:
        pytest.skip(f"{reader[0]} is not installed")
    said = subprocess.run([*reader, str(manual.PAGE)], capture_output=True, text=True, check=False)
    complaints = said.stderr if reader[0] == "man" else said.stdout + said.stderr
    assert (said.returncode, complaints) == (0, "")


def test_every_shell_has_its_completions() -> None:
    for shell, path in manual.COMPLETIONS.items():
        text = path.read_text(encoding="utf-8")
        assert f"_DM_RECONCILER_COMPLETE={shell}_complete" in text, "run `make man`"
        assert "dm-reconciler" in path.name

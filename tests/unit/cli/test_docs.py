"""The reference of commands names what there is."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from reconciler.cli.console import ExitCode
from reconciler.cli.main import COMMANDS

TEXT = (Path(__file__).parents[3] / "docs/reference/commands.md").read_text()
COMMAND_TABLE = TEXT.partition("## Exit codes")[0]


def row(name: str) -> str:
    """The line of the table that is about a command."""
    (line,) = [line for line in COMMAND_TABLE.splitlines() if re.match(rf"\| `{name}[ `]", line)]
    return line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference(name: str) -> None:
    assert row(name)


@pytest.mark.parametrize("name", [name for name in COMMANDS if find_spec(f"reconciler.cli.{name}")])
def test_options_of_the_reference_are_there(name: str) -> None:
    command: click.Command = import_module(f"reconciler.cli.{name}").command
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", row(name).replace("[-- ", "["))) <= known


def test_every_exit_code_is_in_the_reference() -> None:
    for code in ExitCode:
        assert re.search(rf"^\| {int(code)} \|", TEXT, re.MULTILINE)

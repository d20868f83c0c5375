"""Asking before something that cannot be taken back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from reconciler.cli.errors import ExitCode, Failure

F = TypeVar("F", bound=Callable[..., Any])


def yes_option(function: F) -> F:
    """`--yes`, given as `yes: bool`."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def require_answer(*, yes: bool) -> None:
    """Raises Failure (wrong usage) where nobody can answer a question: better at once than after half the work."""
    if yes or _somebody_is_there():
        return
    raise Failure("nobody can be asked, as standard input is no terminal: say --yes if you mean it", ExitCode.USAGE)


def confirm(question: str, *, yes: bool) -> None:
    """Raises Failure where the answer is no."""
    require_answer(yes=yes)
    if not yes and not click.confirm(question, err=True):
        raise Failure("nothing was done")


def _somebody_is_there() -> bool:
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):
        return False

"""Converge once, show each step, and exit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click
from click.core import ParameterSource

from reconciler.cli.console import ExitCode, Failure, Progress, note, say, warnings_only
from reconciler.cli.params import (
    Duration,
    complete_names,
    manifests_option,
    node_option,
    pace_options,
    state_dir_option,
)
from reconciler.controller.fact_gatherer import Settings
from reconciler.daemon.oneshot import OneShotOptions, Result, UnknownName, apply_once, apply_simulated
from reconciler.daemon.record_loader import ManifestsInvalid
from reconciler.kernel.steps.table import commands_of
from reconciler.model.conditions import Condition, Reason, Status
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from reconciler.model.steps import Step
from reconciler.planner.orphans import PruneRules

_NAMED: Final = 3
"""How many of the records that are waited for a line names."""
_MORE: Final = ": `dm-reconciler describe device NAME` tells more"


class _Given(TypedDict):
    """The values of the options and arguments."""

    manifests: Path
    timeout: float
    suspend_grace: float
    prune_delay: float
    allow_mass_prune: bool
    kernel: str
    node: str
    state_dir: Path
    names: tuple[str, ...]


@click.command(
    epilog="""\b
Examples:
  dm-reconciler apply --manifests /etc/dm-reconciler
  dm-reconciler apply --manifests manifests/ tank
  dm-reconciler apply --manifests manifests/ tank/base tank/app --timeout 5m
  dm-reconciler apply --manifests manifests/ --kernel simulated

\b
Ends at once when only a person can go on (Conflict, InvalidChange, MetadataMismatch).
""",
)
@manifests_option
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to try.")
@pace_options
@click.option("--allow-mass-prune", is_flag=True, help="Prune even though most records of a pool vanished at once.")
@click.option(
    "--kernel",
    type=click.Choice(["host", "simulated"]),
    default="host",
    show_default=True,
    help="simulated: try it on an empty host in memory; needs no root, keeps nothing.",
)
@node_option
@state_dir_option
@click.argument("names", nargs=-1, metavar="[POOL[/NAME]]...", shell_complete=complete_names)
def command(**given: Unpack[_Given]) -> None:
    """Converge once, show each step, and exit.

    With names, only those pools (with their devices) and devices (with their pools) are touched.
    """
    warnings_only()
    once, is_simulated = _options(given), given["kernel"] == "simulated"
    if is_simulated:
        _refuse_state_dir()
    try:
        with Progress() as progress:
            shown = Shown(progress)
            result = apply_simulated(once, shown, _begin) if is_simulated else apply_once(once, shown)
    except ManifestsInvalid as invalid:
        raise Failure(str(invalid), ExitCode.INVALID) from None
    except UnknownName as unknown:
        raise Failure(str(unknown)) from None
    click.get_current_context().exit(_sum_up(result, "" if is_simulated else _MORE))


def _options(given: _Given) -> OneShotOptions:
    prune = PruneRules(delay=given["prune_delay"], allow_mass=given["allow_mass_prune"])
    return OneShotOptions(
        manifests=given["manifests"],
        state_dir=given["state_dir"],
        node=given["node"],
        names=given["names"],
        timeout=given["timeout"],
        settings=Settings(grace=given["suspend_grace"], prune=prune),
    )


def _refuse_state_dir() -> None:
    """Refuses the option --state-dir with a simulated kernel; in the environment it is meant for all commands."""
    if click.get_current_context().get_parameter_source("state_dir") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--state-dir is for the host: with --kernel simulated nothing is read from it or kept")


def _begin(disks: list[str]) -> None:
    there = f", with {', '.join(disks)}" if disks else ""
    say(f"simulated: nothing real is touched, and nothing is kept; this is an empty host in memory{there}")


class Shown:
    """Shows what happens as it happens, and what is waited for while nothing does."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def waiting(self, left: list[Status], seconds: float) -> None:
        named = [f"{status.key} is {status.reason}" for status in left]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        what = ", ".join(named[:_NAMED]) + more or "the first look is not done"
        with self._lock:
            self._progress.say(f"waiting: {what}", f"; {seconds:.0f} s left")

    def found(self, key: Key, condition: Condition) -> None:
        self._say(f"{key}: {condition.reason}: {condition.message}")

    def warned(self, key: Key, text: str) -> None:
        self._say(f"{key}: {text}")

    def step(self, key: Key, step: Step) -> None:
        for line in commands_of(step):
            self._say(f"{key}:   $ {line}")

    def failed(self, key: Key, step: Step, fault: HostError) -> None:
        del step
        self._say(f"{key}:   {fault}")

    def healed(self, key: Key, reason: Reason, seconds: float) -> None:
        del reason
        self._say(f"{key}: done in {seconds:.1f} s")

    def _say(self, line: str) -> None:
        with self._lock:
            self._progress.pause()
            say(line)


def _sum_up(result: Result, more: str) -> int:
    wrong = [status for _, status in sorted(result.statuses.items()) if not status.good]
    if not wrong and result.timed_out:
        note(f"the time was over before every pool had been looked at: give it more with --timeout{more}")
        return ExitCode.NOT_AS_DESIRED
    if not wrong:
        say(f"converged: {len(result.statuses)} records are as desired")
        return ExitCode.FINE
    for status in wrong:
        note(f"{status.key}: {status.reason}: {status.message}")
    many = "1 record is" if len(wrong) == 1 else f"{len(wrong)} records are"
    why = "the time is over" if result.timed_out else "only you can go on"
    note(f"{many} not as desired, and {why}{more}")
    return ExitCode.NOT_AS_DESIRED

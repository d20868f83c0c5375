"""Find out whether this host is fit, and what to do if not."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any, Final

import click

from reconciler.cli.console import (
    BAD,
    CARE,
    GOOD,
    ExitCode,
    Failure,
    Progress,
    clean,
    console,
    note,
    on_terminal,
    print_json,
    require_answer,
    say,
    warnings_only,
    yes_option,
)
from reconciler.cli.params import Folder, output_option, state_dir_option
from reconciler.doctor.checks import Check, Repair, Severity, how_to_stop
from reconciler.doctor.fix import RepairSession, repair_session
from reconciler.doctor.report import DoctorOptions, Report, examine
from reconciler.store.lock import LockHeld

_STYLES: Final = {Severity.OK: GOOD, Severity.WRONG: BAD, Severity.UNKNOWN: CARE, Severity.LEFT: ""}
_WORDS: Final = {Severity.OK: "ok", Severity.WRONG: "wrong", Severity.UNKNOWN: "unknown", Severity.LEFT: "left"}
_EPILOG: Final = """\b
Each check is one line:
  [ok] as it should be         [!!] something should be done
  [--] left as it is           [??] could not be looked at

\b
Without --fix nothing is repaired. A pool that the daemon is not at work on has its thin ids read, for
which its metadata holds a snapshot of itself for a moment.

\b
--fix shows each repair with its exact effect, and asks. It wants to be alone: stop the daemon first.
It needs --manifests to know a lost store's devices again, and else takes the last good ones.

\b
Examples:
  dm-reconciler doctor
  dm-reconciler doctor --manifests /etc/dm-reconciler --fix
  dm-reconciler doctor -o json | jq -r '.todo[]'

\b
Exit codes: 0 fit, 4 something is [!!] or [??], 1 devices could not be looked at at all.
"""


@click.command(epilog=_EPILOG)
@click.option("--manifests", metavar="DIR", type=Folder(path_type=Path), help="Records to go by.")
@click.option(
    "--node",
    metavar="NAME",
    default=socket.gethostname,
    show_default="the host's name",
    help="For records with `nodes`.",
)
@click.option("--fix", is_flag=True, help="Show each repair, and do it if agreed.")
@yes_option
@output_option("text", "json")
@state_dir_option
def command(*, manifests: Path | None, node: str, state_dir: Path, output: str, fix: bool, yes: bool) -> None:
    """Find out whether this host is fit, and what to do if not."""
    if fix and output == "json":
        raise click.UsageError("--fix asks and tells as it goes: leave out -o json")
    if yes and not fix:
        raise click.UsageError("--yes is for --fix: add that, or leave it out")
    warnings_only()
    options = DoctorOptions(state_dir, manifests, node)
    if fix:
        _fix(options, yes=yes)
    with Progress(terminal_only=True) as progress:
        report = examine(options, progress.say)
    if output == "json":
        print_json({"items": [_item(check) for check in report.checks], "todo": report.todo})
    else:
        _print(report)
    sys.exit(_code(report))


def _code(report: Report) -> int:
    if not report.looked:
        return ExitCode.NOT_DONE
    unfit = any(check.mark in {Severity.WRONG, Severity.UNKNOWN} for check in report.checks)
    return ExitCode.NOT_AS_DESIRED if unfit else ExitCode.FINE


def _item(check: Check) -> dict[str, Any]:
    status = {"result": _WORDS[check.mark], "message": check.message, "todo": check.todo or None}
    return {"kind": "Check", "metadata": {"name": check.subject}, "spec": None, "status": status}


# The report


def _print(report: Report) -> None:
    for check in report.checks:
        _print_check(check)
    say()
    todo = report.todo
    if todo:
        say("to do:")
        for number, line in enumerate(todo, start=1):
            say(f"{number:3}. {clean(line)}")
    elif all(check.mark in {Severity.OK, Severity.LEFT} for check in report.checks):
        say("nothing to do: this host is fit")
        say(f"next: {clean(report.next_step)}")
    else:
        say("what is marked [??] could not be looked at; of the rest, there is nothing to do")


def _print_check(check: Check) -> None:
    mark, text = f"[{check.mark}]", f"{check.subject}: {clean(check.message)}"
    if not on_terminal():
        say(f"{mark} {text}")
        return
    from rich.text import Text  # noqa: PLC0415  # only on a terminal

    console().print(Text.assemble((mark, _STYLES[check.mark]), " ", text), soft_wrap=True)


# The repairs


def _fix(options: DoctorOptions, *, yes: bool) -> None:
    require_answer(yes=yes)
    try:
        with repair_session(options, lambda repair: _agreed(repair, yes=yes)) as session:
            done = sum(_mend(session, pool, yes=yes) for pool in session.pools)
    except LockHeld as held:
        stop = how_to_stop(held.pid)
        raise Failure(f"{held}; --fix wants to be alone: {stop}, then run this again") from None
    say(f"{done or 'no'} {'repair' if done == 1 else 'repairs'} done; this is how it is now:")
    say()


def _mend(session: RepairSession, pool: str, *, yes: bool) -> int:
    """Makes the repairs. Each is worked out anew after the one before, and again after the answer to its question."""
    answered: set[str] = set()
    done = 0
    while True:
        with Progress(terminal_only=True) as progress:
            progress.say(f"looking at pool {pool}")
            offers = [repair for repair in session.offers(pool) if repair.what not in answered]
        if not offers:
            return done
        repair = offers[0]
        if not _agreed(repair, yes=yes):
            answered.add(repair.what)
            say("  left as it is")
            continue
        if repair not in session.offers(pool):
            say("  it has changed meanwhile: looking again")
            continue
        answered.add(repair.what)
        done += _carry_out(session, pool, repair)


def _agreed(repair: Repair, *, yes: bool) -> bool:
    _show(repair)
    return yes or click.confirm(f"{repair.what[0].upper()}{repair.what[1:]}?", err=True)


def _show(repair: Repair) -> None:
    say(repair.what)
    say(f"  why: {clean(repair.why)}")
    for line in repair.effect:
        say(f"  effect: {clean(line)}")


def _carry_out(session: RepairSession, pool: str, repair: Repair) -> bool:
    with Progress(terminal_only=True) as progress:
        progress.say(f"{repair.what} ...")
        fault = session.carry_out(pool, repair)
    if fault is not None:
        note(f"  {fault}")
        return False
    gone = all(repair.what != other.what for other in session.offers(pool))
    left = session.wrong(pool)
    say(f"  done{'' if gone else ', and yet it is found again'}; looked again: {_now(pool, left)}")
    return True


def _now(pool: str, left: list[Check]) -> str:
    if not left:
        return f"pool {pool} is fit"
    return "; ".join(f"{check.subject}: {clean(check.message)}" for check in left[:3]) + ("; ..." if left[3:] else "")

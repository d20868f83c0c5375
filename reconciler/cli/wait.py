"""Wait until a device or pool is ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import click

from reconciler.cli.console import ExitCode, Failure, Progress
from reconciler.cli.params import Duration, Kind, complete_names, state_dir_option
from reconciler.cli.view import NoStore, Seen, StoreWatcher, as_of_now, find, freshness, from_before_boot
from reconciler.model.live import LiveState
from reconciler.model.names import Key

_EPILOG: Final = """\b
Examples:
  dm-reconciler wait device tank/base
  dm-reconciler wait pool tank --timeout 2m

\b
Before a service that needs the device:
  ExecStartPre=dm-reconciler wait device tank/base --timeout 30s

\b
The exit code is 0 once it is ready, 4 with the reason if it is not in time, 1 if there is no state.
"""
_EVERY: Final = 0.2
NODES: Final = Path("/dev/mapper")


@click.command("wait", epilog=_EPILOG)
@click.argument("kind", type=Kind())
@click.argument("name", shell_complete=complete_names)
@click.option(
    "--timeout",
    metavar="DURATION",
    type=Duration(zero=True),
    default="30s",
    show_default=True,
    help="Give up after so long: 30s, 2m, 1h. 0 looks once.",
)
@state_dir_option
def command(kind: str, name: str, timeout: float, state_dir: Path) -> None:
    """Wait until a device or pool is ready.

    A record that does not exist yet is waited for too. A device's NAME is POOL/NAME, or the bare name where it is
    unique.
    """
    missing = "there is no state yet"
    with Progress() as progress:
        for missing in _missing(kind, name, timeout, state_dir):
            if not missing:
                return
            progress.say(f"waiting for {kind} {name}: {missing}")
    raise Failure(f"{kind} {name} is not ready after {timeout:g}s: {missing}", ExitCode.NOT_AS_DESIRED)


def _missing(kind: str, name: str, timeout: float, state_dir: Path) -> Iterator[str]:
    """Yields at each check what is still missing, empty if nothing is. Raises NoStore if there is no store in time."""
    deadline = monotonic() + timeout
    with StoreWatcher(state_dir) as watcher:
        while True:
            late = monotonic() >= deadline
            try:
                seen = watcher.latest()
                yield _lacks(seen, kind, name) or _doubt(watcher, kind, name) or _no_node(seen[find(seen, kind, name)])
            except NoStore as error:
                if late:
                    raise
                yield error.message
            if late:
                return
            sleep(min(_EVERY, max(deadline - monotonic(), 0)))


def _lacks(seen: Mapping[Key, Seen], kind: str, name: str) -> str:
    """Why the record is not ready; empty if it is."""
    try:
        one = seen[find(seen, kind, name)]
    except Failure as failure:
        if failure.exit_code == ExitCode.USAGE:
            raise
        return "there is no such record yet"
    return _why_not_ready(one)


def _doubt(watcher: StoreWatcher, kind: str, name: str) -> str:
    """Why the ready status in the store is not to be trusted; empty if it is."""
    fresh = freshness(watcher.state_dir)
    if fresh.statuses is not None:
        return fresh.stale or _lacks(as_of_now(watcher.seen(), fresh), kind, name)
    if fresh.is_running or from_before_boot(watcher.state_dir):
        return fresh.stale
    return ""  # no process is at work: the state is as the last one left it, and the node exists


def _why_not_ready(one: Seen) -> str:
    status = one.status
    if status is None:
        return "it was not looked at yet"
    if not status.ready:
        return f"{status.reason.value}: {status.message}" if status.message else status.reason.value
    return ""


def _no_node(one: Seen) -> str:
    """Why the node is missing; empty if it is there. A status from before a reboot must not cause a mount."""
    status = one.status
    if (
        status is not None
        and status.live is LiveState.ACTIVE
        and status.dm_name
        and not (NODES / status.dm_name).exists()
    ):
        return f"{NODES / status.dm_name} is not there, though it was when last looked at: does the daemon run?"
    return ""

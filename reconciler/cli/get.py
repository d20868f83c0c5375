"""List pools and devices: desired, live, ready, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from reconciler.cli.console import note
from reconciler.cli.eyes import Eyes
from reconciler.cli.freshness import as_of_now, freshness, tell
from reconciler.cli.listing import FORMATS, print_listing
from reconciler.cli.params import Kind, complete_names, output_option, state_dir_option
from reconciler.cli.view import Seen, find, look, of_kind, reading
from reconciler.cli.watch import follow
from reconciler.model.names import Key

_EPILOG: Final = """\b
Examples:
  dm-reconciler get                                  pools and devices
  dm-reconciler get devices -o wide                  with dm names, ids and messages
  dm-reconciler get devices tank/base -o json
  dm-reconciler get --watch                          whenever something changes

\b
MAPPED is what a device (or all of a pool) takes of the pool's data. A "-" is what nobody
knows: how much is mapped, while a device is not there; what is desired, once a record is gone.
The exit code is 0 whatever the state is: `dm-reconciler wait` and `plan` are for scripts that ask.
"""


@click.command("get", epilog=_EPILOG)
@click.argument("kind", type=Kind(many=True), required=False)
@click.argument("name", required=False, shell_complete=complete_names)
@output_option(*FORMATS)
@click.option("-w", "--watch", is_flag=True, help="Go on, and print what changes. Ends with Ctrl-C.")
@state_dir_option
def command(kind: str | None, name: str | None, output: str, watch: bool, state_dir: Path) -> None:
    """List pools and devices: desired, live, ready, and why not.

    A device's NAME is POOL/NAME, or the bare name where it is unique.
    """
    if watch:
        with Eyes(state_dir) as eyes:
            follow(eyes, kind or "", name, output)
        return
    with reading(state_dir) as store:
        fresh = freshness(state_dir)
        seen = _selected(as_of_now(look(store), fresh), kind or "", name)
    tell(fresh)
    if not seen and output in {"table", "wide"}:
        note(f"no {kind + 's' if kind else 'records'} yet: the daemon has found none in its manifests")
        return
    print_listing(list(seen.values()), output, stale=fresh.stale)


def _selected(seen: Mapping[Key, Seen], kind: str, name: str | None) -> dict[Key, Seen]:
    if name is None:
        return of_kind(seen, kind)
    key = find(seen, kind, name)
    return {key: seen[key]}

"""List pools and devices: desired, live, ready, and why not.

The listing is a table, JSON or YAML. With `--watch` it is drawn anew on a terminal; elsewhere what has changed is listed.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

import click

from reconciler.cli.console import Row, Table, console, note, on_terminal, print_json, print_table, say, to_yaml
from reconciler.cli.format import ago_text, live_text, ready_text, reason_text, share_text, size_text
from reconciler.cli.params import Kind, complete_names, output_option, state_dir_option
from reconciler.cli.view import Freshness, Seen, StoreWatcher, as_of_now, find, freshness, look, of_kind, reading, tell
from reconciler.model.conditions import DeviceStatus, PoolStatusReport
from reconciler.model.names import Key

FORMATS: Final = ("table", "wide", "json", "yaml")
_POOL: Final = ("NAME", "DESIRED", "LIVE", "READY", "REASON", "SIZE", "MAPPED", "USED")
_POOL_WIDE: Final = (*_POOL, "METADATA", "MODE", "TRANSACTION", "SINCE", "MESSAGE")
_DEVICE: Final = ("NAME", "POOL", "DESIRED", "LIVE", "READY", "REASON", "SIZE", "MAPPED")
_DEVICE_WIDE: Final = (*_DEVICE, "DM-NAME", "ID", "UUID", "SINCE", "MESSAGE")


def print_listing(seen: Sequence[Seen], output: str, *, stream: bool = False, stale: str = "") -> None:
    """Prints the listing. `stream` is for one of several listings in a row, `stale` says why it is outdated."""
    match output:
        case "json":
            print_json(document(seen, stale), compact=stream)
        case "yaml":
            say_yaml(document(seen, stale), stream=stream)
        case _:
            _print_tables(seen, wide=output == "wide")


def visible(one: Seen, output: str) -> object:
    """What the listing shows of a record, except for ages; listings in which this is equal look the same."""
    if output != "table":
        return one
    return _device_row(one) if one.key.device else _pool_row(one)


def document(seen: Sequence[Seen], stale: str = "") -> dict[str, Any]:
    items = {"items": [one.item for one in seen]}
    return {**items, "stale": stale} if stale else items


def say_yaml(value: Any, *, stream: bool = False) -> None:
    for line in [*(["---"] if stream else []), *to_yaml(value).splitlines()]:
        say(line)


def _print_tables(seen: Sequence[Seen], *, wide: bool) -> None:
    pools = [one for one in seen if not one.key.device]
    devices = [one for one in seen if one.key.device]
    tables = []
    if pools:
        tables.append(_table(pools, _POOL_WIDE if wide else _POOL, _wide_pool_row if wide else _pool_row, wide=wide))
    if devices:
        columns, row = (_DEVICE_WIDE, _wide_device_row) if wide else (_DEVICE, _device_row)
        tables.append(_table(devices, columns, row, wide=wide))
    for number, table in enumerate(tables):
        if number:
            say()
        print_table(table)


def _table(seen: Sequence[Seen], columns: Sequence[str], row: Callable[[Seen], Row], *, wide: bool) -> Table:
    return Table(columns, [row(one) for one in seen], text=wide)


def _pool_row(one: Seen) -> list[Any]:
    status = one.status if isinstance(one.status, PoolStatusReport) else None
    sizes = (status.data_size, status.data_used) if status else (None, None)
    return [one.key.pool, *_state(one), size_text(sizes[0]), size_text(sizes[1]), share_text(sizes[1], sizes[0])]


def _wide_pool_row(one: Seen) -> list[Any]:
    status = one.status
    if not isinstance(status, PoolStatusReport):
        return [*_pool_row(one), "", "", "", *_told(one)]
    transaction = "" if status.transaction_id is None else str(status.transaction_id)
    metadata = share_text(status.metadata_used, status.metadata_size)
    return [*_pool_row(one), metadata, status.mode.value, transaction, *_told(one)]


def _device_row(one: Seen) -> list[Any]:
    status = one.status if isinstance(one.status, DeviceStatus) else None
    sizes = (status.size, status.mapped) if status else (None, None)
    return [one.key.device, one.key.pool, *_state(one), *(size_text(each) for each in sizes)]


def _wide_device_row(one: Seen) -> list[Any]:
    status = one.status
    if not isinstance(status, DeviceStatus):
        return [*_device_row(one), "", "", "", *_told(one)]
    thin_id = "" if status.device_id is None else str(status.device_id)
    return [*_device_row(one), status.dm_name, thin_id, status.uuid, *_told(one)]


def _state(one: Seen) -> list[Any]:
    return [one.desired, live_text(one.status), ready_text(one.status), reason_text(one.status)]


def _told(one: Seen) -> list[str]:
    if one.status is None:
        return ["", "not looked at yet"]
    return [ago_text(time() - one.status.since), one.status.message]


_AGES: Final = 10.0
"""Seconds after which a terminal is redrawn without a change, because the ages have changed."""
_ASKED_EVERY: Final = 2.0
"""Seconds between two checks whether the content of the store is current."""
_CLEAR, _HOME, _END_OF_LINE, _BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
_Listing = dict[Key, Seen]


def follow(watcher: StoreWatcher, kind: str, name: str | None, output: str) -> None:
    """Shows the listing or what changes in it, until Ctrl-C. Raises Failure if nothing has the name at the start."""
    if on_terminal() and output in {"table", "wide"} and not console().is_dumb_terminal:
        _draw_each(watcher, kind, name, output)
    else:
        _print_changes(watcher, kind, name, output)


def _print_changes(watcher: StoreWatcher, kind: str, name: str | None, output: str) -> None:
    before: dict[Key, object] = {}
    for listing in _looks(watcher, kind, name, note):
        now = {key: visible(one, output) for key, one in listing.items()}
        gone = [Seen(key) for key in before if key not in now]
        changed = gone + [one for key, one in listing.items() if before.get(key) != now[key]]
        if changed:
            print_listing(changed, output, stream=True)
        before = now


def _draw_each(watcher: StoreWatcher, kind: str, name: str | None, output: str) -> None:
    before: object = None
    drawn = -_AGES
    sys.stdout.write(_CLEAR)
    said: list[str] = []
    for now in _looks(watcher, kind, name, said.append):
        shown = now, console().size, len(said)
        if shown != before or monotonic() - drawn >= _AGES:
            _draw(list(now.values()), output, said[-1] if said else "")
            before, drawn = shown, monotonic()


def _draw(listing: list[Seen], output: str, stale: str) -> None:
    """Redraws over the old text in one write, because clearing the screen first would flicker."""
    with redirect_stdout(_Frame()) as frame:
        print_listing(listing, output)
        if not listing:
            say("no records yet: the daemon has found none in its manifests")
        if stale:
            say(stale)
    sys.stdout.write(_HOME + frame.getvalue().replace("\n", f"{_END_OF_LINE}\n") + _BELOW)
    sys.stdout.flush()


class _Frame(io.StringIO):
    """Collects the text for the terminal until all of it is there."""

    def isatty(self) -> bool:
        return True


def _looks(watcher: StoreWatcher, kind: str, name: str | None, tell: Callable[[str], None]) -> Iterator[_Listing]:
    """Yields what is asked for, again and again. `tell` is called when the content becomes outdated and when it is
    current again.
    """
    key: Key | None = None
    fresh, asked, told = Freshness(), -_ASKED_EVERY, ""
    for _ in watcher.looks():
        if monotonic() - asked >= _ASKED_EVERY:
            fresh, asked = freshness(watcher.state_dir), monotonic()
            if bool(fresh.stale) != bool(told):
                tell(fresh.stale or "what follows is of now again")
                told = fresh.stale
        seen = as_of_now(watcher.seen(), fresh)
        if name is None:
            yield of_kind(seen, kind)
            continue
        key = key or find(seen, kind, name)
        yield {key: seen[key]} if key in seen else {}


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
        with StoreWatcher(state_dir) as watcher:
            follow(watcher, kind or "", name, output)
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

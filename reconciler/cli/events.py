"""Show what was found and what was done about it, newest last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from reconciler.cli.console import Row, note, plain_lines, print_json, print_table
from reconciler.cli.format import COLUMNS, row, table
from reconciler.cli.params import complete_names, output_option, state_dir_option
from reconciler.cli.view import StoreWatcher, find, freshness, look, reading, tell
from reconciler.model.conditions import Event, event_item
from reconciler.store.store import Store
from reconciler.store.tables import KEPT

_EPILOG: Final = """\b
Found: drift, at its first look     Healed: it has ended     Failed: a step did not work
Blocked: not as desired, and nothing may be done about it    COUNT: how often, within 10 minutes

\b
Examples:
  dm-reconciler events
  dm-reconciler events tank                  of a pool and its devices
  dm-reconciler events tank/base --follow
  dm-reconciler events -f -o json | jq -r 'select(.type == "Failed") | .message'
"""
Wanted = Callable[[Event], bool]


@click.command("events", epilog=_EPILOG)
@click.argument("name", metavar="[POOL[/NAME]]", required=False, shell_complete=complete_names)
@click.option("-f", "--follow", is_flag=True, help="Go on, and print new ones as they come. Ends with Ctrl-C.")
@click.option(
    "-n",
    "--limit",
    metavar="COUNT",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="The last so many.",
)
@output_option("table", "json")
@state_dir_option
def command(name: str | None, follow: bool, limit: int, output: str, state_dir: Path) -> None:
    """Show what was found and what was done about it, newest last.

    With --follow, JSON is one object a line, else `{"items": [...]}`. Times are local in tables and UTC in JSON.
    """
    if follow:
        with StoreWatcher(state_dir) as watcher:
            _print_each(_follow(watcher, name, limit), output)
        return
    with reading(state_dir) as store:
        last, _, _ = _last(store, name, limit)
    tell(freshness(state_dir))
    if output == "json":
        print_json({"items": [event_item(event) for event in last]})
    elif last:
        print_table(table(last))
    else:
        note("no events yet")


def _last(store: Store, name: str | None, limit: int) -> tuple[list[Event], Wanted, int]:
    """The last events that are asked for, the filter that selects them, and the store's latest revision."""
    found = store.events(limit=KEPT)
    wanted = _chosen(store, name, [event for _, event in found])
    chosen = [event for _, event in found if wanted(event)]
    return chosen[len(chosen) - limit if limit < len(chosen) else 0 :], wanted, found[-1][0] if found else -1


def _chosen(store: Store, name: str | None, events: list[Event]) -> Wanted:
    """The filter for a pool and everything in it, or for one device, also if only events are left of it."""
    if name is None:
        return lambda _: True
    keys = dict.fromkeys([*look(store), *(event.key for event in events)])
    if any(key.pool == name for key in keys):
        return lambda event: event.key.pool == name
    wanted = find(keys, "device", name)
    return lambda event: event.key == wanted


def _follow(watcher: StoreWatcher, name: str | None, limit: int) -> Iterator[list[Event]]:
    """Yields the last events, and then new ones as they come."""
    stores, revision = 0, -1
    wanted: Wanted
    for store in watcher.looks():
        if watcher.stores != stores:  # the first store, or a new one, whose revisions start again
            stores = watcher.stores
            last, wanted, revision = _last(store, name, limit)
            yield last
            continue
        new = store.events(after=revision)
        revision = new[-1][0] if new else revision
        yield [event for _, event in new if wanted(event)]


def _print_each(batches: Iterator[list[Event]], output: str) -> None:
    head: list[Row] = [COLUMNS]
    widths = [0] * len(COLUMNS)
    for events in batches:
        if output == "table":
            _print_lines([*head, *(row(event) for event in events)], widths)
        else:
            _print_objects(events)
        head = []


def _print_lines(rows: list[Row], widths: list[int]) -> None:
    for line in plain_lines(rows, widths):
        click.echo(line)


def _print_objects(events: list[Event]) -> None:
    for event in events:
        print_json(event_item(event), compact=True)

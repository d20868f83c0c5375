"""Show everything known of one pool or device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from reconciler.cli.chronicle import table_of_one
from reconciler.cli.console import Cell, print_json, print_styled, print_table, say
from reconciler.cli.freshness import as_of_now, freshness, tell
from reconciler.cli.params import Kind, complete_names, output_option, state_dir_option
from reconciler.cli.portrait import Portrait, Section, as_json, sections
from reconciler.cli.view import Seen, find, look, reading
from reconciler.model.names import Key
from reconciler.store.store import Store

_EPILOG: Final = """\b
Examples:
  dm-reconciler describe device tank/base
  dm-reconciler describe pool tank
  dm-reconciler describe device base -o json

\b
"Held by" is who keeps a device from being taken away, where it is busy.
"""
_EVENTS: Final = 10


@click.command("describe", epilog=_EPILOG)
@click.argument("kind", type=Kind())
@click.argument("name", shell_complete=complete_names)
@output_option("text", "json")
@state_dir_option
def command(kind: str, name: str, output: str, state_dir: Path) -> None:
    """Show everything known of one pool or device.

    What its record says, what was last seen of it, what the store knows, and its last events. A device's NAME is
    POOL/NAME, or the bare name where it is unique.
    """
    with reading(state_dir) as store:
        fresh = freshness(state_dir)
        portrait = _portrait(store, as_of_now(look(store), fresh), kind, name)
    tell(fresh)
    if output == "json":
        items = {"items": [as_json(portrait)]}
        print_json({**items, "stale": fresh.stale} if fresh.stale else items)
        return
    for section in sections(portrait):
        _print_section(section)
    _print_events(portrait)


def _portrait(store: Store, seen: Mapping[Key, Seen], kind: str, name: str) -> Portrait:
    one = seen[find(seen, kind, name)]
    key = one.key
    intents = [intent for intent in store.intents(key.pool) if not key.device or intent.key == key]
    events = [event for _, event in store.events(key=key, limit=_EVENTS)]
    devices = (
        [] if key.device else [other for other in seen.values() if other.key.device and other.key.pool == key.pool]
    )
    return Portrait(one, intents, events, devices, sorted(store.taken(key.pool)))


def _print_section(section: Section) -> None:
    say(f"{section.title}:")
    width = max((len(label) for label, _ in section.lines), default=0) + 1
    for label, value in section.lines:
        cell = value if isinstance(value, Cell) else Cell(value)
        first, *others = cell.text.splitlines() or [""]
        head = f"{label}:".ljust(width) + "  " if label else ""
        print_styled("  " + head, Cell(first, cell.style))
        for other in others:
            say("  " + " " * len(head) + other)


def _print_events(portrait: Portrait) -> None:
    say("Events:" if portrait.events else "Events: none")
    if portrait.events:
        print_table(table_of_one(portrait.events))

"""Show everything known of one pool or device.

It is shown in sections for people, or as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, Final

import click

from reconciler.cli.console import Cell, clean, print_json, print_styled, print_table, say, to_yaml
from reconciler.cli.format import ago_text, local_time, ready_text, reason_text, share_text, size_text, table_of_one
from reconciler.cli.params import Kind, complete_names, output_option, state_dir_option
from reconciler.cli.view import Seen, as_of_now, find, freshness, look, reading, tell
from reconciler.model.conditions import DeviceStatus, Event, PoolStatusReport, Status, event_item
from reconciler.model.names import Key
from reconciler.model.stored import Intent, StoredDevice, StoredPool
from reconciler.model.units import format_size, in_bytes
from reconciler.store.store import Store

Line = tuple[str, str | Cell]


@dataclass(frozen=True, slots=True)
class Description:
    seen: Seen
    intents: Sequence[Intent]
    """The open intents of the device, or of the whole pool."""
    events: Sequence[Event]
    devices: Sequence[Seen] = ()
    """The devices; only of a pool."""
    taken: Sequence[int] = ()
    """Thin ids of the pool that belong to no device here."""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    lines: Sequence[Line]


def sections(description: Description) -> Iterator[Section]:
    seen = description.seen
    yield Section("Device" if seen.key.device else "Pool", list(_record(description)))
    yield Section("Status", list(_status(seen)))
    match seen.known:
        case StoredDevice() as device:
            yield Section("Store", [*_known_device(device), *_under_way(description)])
        case StoredPool() as pool:
            yield Section("Store", [*_known_pool(pool, description.taken), *_under_way(description)])
        case _:
            unknown = [("", "knows nothing of it: it was not made yet")]
            yield Section("Store", list(_under_way(description)) or unknown)


def _record(description: Description) -> Iterator[Line]:
    seen = description.seen
    yield "Name", str(seen.key)
    if description.devices:
        yield "Devices", ", ".join(other.key.device for other in description.devices)
    yield "Declared", seen.place
    if seen.spec is not None:
        yield "Spec", to_yaml(seen.spec)


def _status(seen: Seen) -> Iterator[Line]:
    status = seen.status
    if status is None:
        yield "", "it was not looked at yet"
        return
    yield "Desired", seen.desired
    yield "Live", status.live.value
    yield "Ready", ready_text(status)
    yield "Reason", reason_text(status)
    if status.beneath is not None:
        yield "Beneath", f"{status.beneath.value}, which is not healed meanwhile"
    yield "Message", clean(status.message)
    yield "Since", f"{local_time(status.since)} ({ago_text(time() - status.since)} ago)"
    yield "DM name", status.dm_name
    yield "UUID", status.uuid
    yield from _own_status(status)


def _own_status(status: Status) -> Iterator[Line]:
    match status:
        case DeviceStatus():
            yield "Thin id", "" if status.device_id is None else str(status.device_id)
            yield "Size", size_text(status.size)
            yield "Mapped", size_text(status.mapped)
            if status.origin:
                yield "Snapshot of", status.origin
            if status.holders:
                yield "Held by", "\n".join(clean(holder) for holder in status.holders)
        case PoolStatusReport():
            yield "Mode", status.mode.value
            yield "Data", _used(status.data_used, status.data_size)
            yield "Metadata", _used(status.metadata_used, status.metadata_size)
            yield "Transaction", "" if status.transaction_id is None else str(status.transaction_id)
            if status.leaked_ids:
                ids = ", ".join(str(number) for number in status.leaked_ids)
                yield "Leaked", f"thin ids {ids}: {size_text(status.leaked)}"


def _used(used: Any, total: Any) -> str:
    if used is None or total is None:
        return ""
    return f"{size_text(used)} of {size_text(total)} used ({share_text(used, total)})"


def _known_device(known: StoredDevice) -> Iterator[Line]:
    came = "adopted" if known.created_at is None else f"created at transaction {known.created_at}"
    yield "Thin id", f"{known.thin_id}, {came}"
    yield "UUID", known.uuid
    yield "DM name", known.dm_name
    yield "Size", format_size(in_bytes(known.size))
    if known.filesystem:
        grown = known.filesystem_size in {0, known.size}
        yield "Filesystem", known.filesystem if grown else f"{known.filesystem}, still to grow with the device"
    if known.origin:
        yield "Made of", known.origin
    facts = {
        "active when last seen": known.active,
        "committed, its content is final": known.committed,
        "read-only": known.read_only,
        "suspended by the reconciler, to be resumed": known.frozen,
    }
    noted = [fact for fact, holds in facts.items() if holds]
    if noted:
        yield "Noted", "; ".join(noted)
    if known.gone_since is not None:
        yield "No record", f"since {local_time(known.gone_since)}"


def _known_pool(known: StoredPool, taken: Sequence[int]) -> Iterator[Line]:
    yield "UUID", known.uuid
    yield "Made", "somebody else's" if known.external else "yes" if known.created else "begun, not finished"
    yield "Data", f"{clean(known.data)}, {format_size(known.data_size)}"
    yield "Metadata", f"{clean(known.metadata)}, {format_size(known.metadata_size)}"
    yield "Block size", format_size(in_bytes(known.block))
    yield "Transaction", str(known.transaction_id)
    if known.made_files:
        yield "Made files", "\n".join(clean(path) for path in known.made_files)
    if taken:
        yield "Others' ids", ", ".join(str(number) for number in taken)


def _under_way(description: Description) -> Iterator[Line]:
    for intent in description.intents:
        yield (
            "Under way",
            f"{intent.kind} of {intent.key}, thin id {intent.thin_id}, transaction {intent.transaction_id}",
        )


def as_json(description: Description) -> dict[str, Any]:
    """The item that `get` shows, with everything else that is known."""
    seen = description.seen
    return {
        "record": None,
        **seen.item,
        "known": _known_json(seen.known),
        "intents": [_intent_json(intent) for intent in description.intents],
        "events": [event_item(event) for event in description.events],
    }


def _known_json(known: StoredPool | StoredDevice | None) -> dict[str, Any] | None:
    match known:
        case StoredDevice():
            return {
                "deviceId": known.thin_id,
                "uuid": known.uuid,
                "dmName": known.dm_name,
                "sizeBytes": in_bytes(known.size),
                "createdAt": known.created_at,
                "snapshotOf": known.origin or None,
                "filesystem": known.filesystem or None,
                "filesystemSizeBytes": in_bytes(known.filesystem_size),
                "active": known.active,
                "committed": known.committed,
                "readOnly": known.read_only,
                "adopted": known.adopted,
                "frozen": known.frozen,
            }
        case StoredPool():
            return {
                "uuid": known.uuid,
                "created": known.created,
                "external": known.external,
                "data": known.data,
                "metadata": known.metadata,
                "dataSizeBytes": known.data_size,
                "metadataSizeBytes": known.metadata_size,
                "blockSizeBytes": in_bytes(known.block),
                "transactionId": known.transaction_id,
                "madeFiles": list(known.made_files),
            }
        case None:
            return None


def _intent_json(intent: Intent) -> dict[str, Any]:
    return {
        "kind": intent.kind.value,
        "object": {"kind": intent.key.kind, "name": str(intent.key)},
        "deviceId": intent.thin_id,
        "transactionId": intent.transaction_id,
    }


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
        description = _description(store, as_of_now(look(store), fresh), kind, name)
    tell(fresh)
    if output == "json":
        items = {"items": [as_json(description)]}
        print_json({**items, "stale": fresh.stale} if fresh.stale else items)
        return
    for section in sections(description):
        _print_section(section)
    _print_events(description)


def _description(store: Store, seen: Mapping[Key, Seen], kind: str, name: str) -> Description:
    one = seen[find(seen, kind, name)]
    key = one.key
    intents = [intent for intent in store.intents(key.pool) if not key.device or intent.key == key]
    events = [event for _, event in store.events(key=key, limit=_EVENTS)]
    devices = (
        [] if key.device else [other for other in seen.values() if other.key.device and other.key.pool == key.pool]
    )
    return Description(one, intents, events, devices, sorted(store.taken(key.pool)))


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


def _print_events(description: Description) -> None:
    say("Events:" if description.events else "Events: none")
    if description.events:
        print_table(table_of_one(description.events))

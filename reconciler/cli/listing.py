"""Pools and devices as tables, JSON and YAML: what `get` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Any, Final

from reconciler.cli.console import Row, Table, print_json, print_table, say, to_yaml
from reconciler.cli.format import ago_text, live_text, ready_text, reason_text, share_text, size_text
from reconciler.cli.view import Seen
from reconciler.model.conditions import DeviceStatus, PoolStatusReport

FORMATS: Final = ("table", "wide", "json", "yaml")
_POOL: Final = ("NAME", "DESIRED", "LIVE", "READY", "REASON", "SIZE", "MAPPED", "USED")
_POOL_WIDE: Final = (*_POOL, "METADATA", "MODE", "TRANSACTION", "SINCE", "MESSAGE")
_DEVICE: Final = ("NAME", "POOL", "DESIRED", "LIVE", "READY", "REASON", "SIZE", "MAPPED")
_DEVICE_WIDE: Final = (*_DEVICE, "DM-NAME", "ID", "UUID", "SINCE", "MESSAGE")


def print_listing(seen: Sequence[Seen], output: str, *, stream: bool = False, stale: str = "") -> None:
    """`stream`: one of several listings that follow each other. `stale`: why it is not of now."""
    match output:
        case "json":
            print_json(document(seen, stale), compact=stream)
        case "yaml":
            say_yaml(document(seen, stale), stream=stream)
        case _:
            _print_tables(seen, wide=output == "wide")


def visible(one: Seen, output: str) -> object:
    """Two looks of which this is the same differ in nothing that the listing shows, but in how long ago it was."""
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

"""No empty device takes the place of a full one: the one guard that everything passes which makes a device.

The store may know less than the pool holds: a pool or a device was forgotten, an older copy of the store was put back,
the state directory is a new one, a pool was taken over. A record that it has no device for may then have its data in a
thin id that nobody names. As long as there is such an id, nothing is made; the operator says whose each is.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

from reconciler.model.live import ThinEntry, ThinIds
from reconciler.model.records import ThinDevice
from reconciler.model.stored import KnownPool
from reconciler.model.units import SECTOR, Sectors, format_size
from reconciler.planner.facts import DeviceCase

_SHOWN: Final = 12


def suspects_of(
    pool: KnownPool | None,
    ids: ThinIds,
    *,
    named: Container[int],
    left: Mapping[int, int | None],
    foreign: Container[int] = (),
) -> ThinIds:
    """Thin ids that may be the data of a device that the store does not know.

    `named` are those of devices, operations and adoptions; `left` those that a device of this very name had when it was
    forgotten, with the transaction that made each, if known; `foreign` those that the pool's record says are nobody's.
    """
    until = pool.taken_over_at if pool is not None else None
    if until is None and not left:
        return {}
    return {
        number: entry
        for number, entry in sorted(ids.items())
        if number not in named
        and number not in foreign
        and ((until is not None and entry.created_at <= until) or (number in left and _is_still(left[number], entry)))
    }


def _is_still(made_at: int | None, entry: ThinEntry) -> bool:
    return made_at is None or made_at == entry.created_at


def held_back(case: DeviceCase, record: ThinDevice) -> str:
    """Why the device is not made, and what to do; empty where it may be."""
    pool = case.key.pool
    if case.suspects is None:
        return (
            f"{case.key} is made only where no thin id of pool {pool} that nobody names may be its data: `apply` or the "
            f"daemon reads them first"
        )
    if not case.suspects:
        return ""
    first = next(iter(case.suspects))
    return (
        f"{case.key} is not made: it would be empty, and its data may be in a thin id of pool {pool} that no record "
        f"names: {told(case.suspects, case.pool_known.block if case.pool_known is not None else Sectors(0))}. If one of "
        f"them is its data, add `adopt: {{deviceId: {first}, dmName: {record.dm_name}}}` (with its id) to its record; if one "
        f"is no record's data, add it to `foreignThins: [{first}]` in the record of pool {pool}"
    )


def told(ids: ThinIds, block: Sectors) -> str:
    """With the transaction that made each, where that is known: the order in which they were made."""
    shown = [f"{number}{_figures(entry, block)}" for number, entry in ids.items()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _figures(entry: ThinEntry, block: Sectors) -> str:
    if entry == ThinEntry(0, 0):
        return ""
    return f" ({format_size(entry.mapped_blocks * block * SECTOR)}, of transaction {entry.created_at})"

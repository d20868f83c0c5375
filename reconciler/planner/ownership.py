"""Whose a device is. Everything that is not provably ours is foreign, and left alone."""

from __future__ import annotations

from reconciler.model.dm_tables import Devno, ErrorTable, PoolTable, ThinTable, read_table
from reconciler.model.live import DeviceInfo, LiveDevice, LivePool
from reconciler.model.names import UUID_PREFIX, is_private, of_store
from reconciler.model.records import ThinPool
from reconciler.model.stored import KnownDevice, KnownPool
from reconciler.model.units import sectors

OWNERS = {
    "LVM-": "LVM",
    "mpath-": "multipath",
    "CRYPT-": "cryptsetup",
    "stratis-1-": "stratis",
    "DMR-": "another dm-reconciler store",
}


def owner_of(info: DeviceInfo) -> str:
    """Whose it seems to be, by its UUID's prefix: in words, for messages."""
    for prefix, owner in OWNERS.items():
        if info.uuid.startswith(prefix):
            return f"{owner} (UUID {info.uuid})"
    return f"UUID {info.uuid}" if info.uuid else "nobody's that can be told (no UUID)"


def owns_device(live: LiveDevice, known: KnownDevice | None, pool: Devno | None) -> bool:
    """Whether a device that carries the record's name is the record's.

    By the UUID that the store gave it; or without a UUID by the thin that it shows; or by an error table that has
    taken the place of a thin which the store knew as active, while nobody has it open; or, where an adopted device
    never had a UUID, by being an empty shell: what a crash between create and load leaves of it.
    """
    if known is None:
        return False
    if live.info.uuid:
        return live.info.uuid == known.uuid
    if not live.info.live_table:
        return not known.uuid and live.info.open_count == 0 and _is_shell_of(live, known, pool)
    table = read_table(live.table)
    if isinstance(table, ThinTable):
        return table.pool == pool and table.thin_id == known.thin_id
    if isinstance(table, ErrorTable):
        return known.active and table.length == known.size and live.info.open_count == 0
    return False


def _is_shell_of(live: LiveDevice, known: KnownDevice, pool: Devno | None) -> bool:
    if not live.info.inactive_table:
        return True
    table = read_table(live.inactive)
    return isinstance(table, ThinTable) and table.pool == pool and table.thin_id == known.thin_id


def is_private_of(info: DeviceInfo, our_uuid: str) -> bool:
    """Whether it is a private device that was made by the store which `our_uuid` comes from."""
    return is_private(info.uuid) and is_made_by(info, our_uuid)


def is_made_by(info: DeviceInfo, our_uuid: str) -> bool:
    """Whether it is a device of the store which `our_uuid` comes from."""
    return of_store(info.uuid, our_uuid.removeprefix(UUID_PREFIX).partition("-")[0])


def owns_pool(live: LivePool, record: ThinPool | None, known: KnownPool | None) -> bool:
    """Whether the device that carries the pool's name is the pool of that record."""
    device = live.device
    if device is None:
        return False
    table = read_table(device.table)
    if record is not None and record.spec.external:
        return isinstance(table, PoolTable) or not device.info.live_table
    if known is not None and device.info.uuid and device.info.uuid == known.uuid:
        return True
    if record is None or not isinstance(table, PoolTable):
        return False
    if device.info.uuid and not record.spec.adopt:
        return False
    return lies_on_record(live, table) and table.block == sectors(record.spec.block_size)


def lies_on_record(live: LivePool, table: PoolTable) -> bool:
    """Whether the live table lies on the very devices that the record's paths lead to."""
    return table.metadata == live.metadata.devno and table.data == live.data.devno

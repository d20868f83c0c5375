"""Devices whose records are Active: there, live, the right table, the node present."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Target, ThinFailure
from reconciler.model.live import LiveDevice
from reconciler.model.records import ThinDevice
from reconciler.model.steps import (
    Activate,
    CancelDeferredRemove,
    Clear,
    GrowFilesystem,
    KnowDevice,
    Load,
    MakeWritable,
    RefreshNodes,
    Step,
)
from reconciler.model.stored import KnownDevice
from reconciler.model.units import Sectors
from reconciler.planner.device_findings import (
    after_grace,
    converged,
    external_of,
    find,
    hangs,
    held,
    is_error,
    let_go,
    pool_devno,
    shows_thin,
    thin_target,
    wanted_size,
)
from reconciler.planner.facts import DeviceCase
from reconciler.planner.plan import NODE_GRACE, Plan, Sign


def plan_active(case: DeviceCase, record: ThinDevice) -> Plan:
    known, live = case.known, case.live
    assert known is not None  # noqa: S101  # an unknown one is made first
    without_origin = _without_origin(case, known)
    if without_origin is not None:
        return without_origin
    if live is None:
        return _activate(case, record, known)
    if not live.info.live_table:
        load = Load(live.info.name, _target(case, record, known), read_only=record.spec.read_only)
        plan = find(case, Reason.TABLELESS_SHELL, f"{live.info.name} was created, and no table was loaded")
        return after_grace(case, Sign.NO_TABLE, plan.but(load, *_know(case, record, known)))
    if hangs(live):
        return _resume(case, record, known, live)
    if live.info.inactive_table:
        plan = find(case, Reason.INACTIVE_TABLE_LEFT, f"a table waits in the inactive slot of {live.info.name}")
        return after_grace(case, Sign.INACTIVE_TABLE, plan.but(Clear(live.info.name)))
    return (
        _table(case, record, known, live)
        or _read_only(case, record, known, live)
        or _size(case, record, known, live)
        or _rest(case, record, known, live)
    )


def _without_origin(case: DeviceCase, known: KnownDevice) -> Plan | None:
    """The number of an external origin may be another disk's by now, so that only a live table tells which it is."""
    live, pool = case.live, pool_devno(case)
    if not known.external or (live is not None and (hangs(live) or external_of(live, pool, known.thin_id))):
        return None
    uuid = f" --uuid {known.uuid}" if known.uuid else ""
    table = f"0 {known.size} thin {pool} {known.thin_id} ORIGIN"
    down = f"take {known.dm_name} down, then " if live is not None else ""
    message = (
        f"{case.key} was last active on an external origin, {known.external}: without it, what was never written would "
        f"read as zeros. Nothing is loaded: {down}bring it up with its origin, "
        f"`dmsetup create {known.dm_name}{uuid} --table '{table}'`"
    )
    return find(case, Reason.CONFLICT, message)


def _target_size(case: DeviceCase, record: ThinDevice, known: KnownDevice) -> Sectors:
    """Never less than what is live: whoever made it longer has perhaps put something there."""
    live = case.live
    seen = live is not None and shows_thin(live, pool_devno(case), known.thin_id)
    return max(known.size, wanted_size(case, record), live.length if live is not None and seen else Sectors(0))


def _target(case: DeviceCase, record: ThinDevice, known: KnownDevice) -> Target:
    external = external_of(case.live, pool_devno(case), known.thin_id)
    return thin_target(case, known.thin_id, _target_size(case, record, known), external)


def _now_known(case: DeviceCase, record: ThinDevice, known: KnownDevice) -> KnownDevice:
    filesystem = record.spec.filesystem.type if record.spec.filesystem is not None else known.filesystem
    external = external_of(case.live, pool_devno(case), known.thin_id)
    return replace(
        known,
        active=True,
        frozen=False,
        size=_target_size(case, record, known),
        read_only=record.spec.read_only,
        filesystem=filesystem,
        external=known.external if external is None else str(external),
    )


def _know(case: DeviceCase, record: ThinDevice, known: KnownDevice) -> tuple[Step, ...]:
    """Note in the store what is going to be true, if that is news; then let the filesystem follow its device."""
    now_known = _now_known(case, record, known)
    steps: list[Step] = [KnowDevice(case.key, now_known)] if now_known != known else []
    return (*steps, *_grow(case, record, now_known))


def _grow(case: DeviceCase, record: ThinDevice, known: KnownDevice) -> tuple[Step, ...]:
    if not known.filesystem or known.filesystem_size >= known.size or record.spec.read_only:
        return ()
    return (
        GrowFilesystem(known.dm_name, known.filesystem),
        KnowDevice(case.key, replace(known, filesystem_size=known.size)),
    )


def _activate(case: DeviceCase, record: ThinDevice, known: KnownDevice) -> Plan:
    step = Activate(known.dm_name, known.uuid, _target(case, record, known), read_only=record.spec.read_only)
    message = f"{known.dm_name} is to be active: activating it"
    if known.active:  # it was active before: somebody, or a reboot, took it away
        message = f'device "{known.dm_name}" is recorded as Active but is not active, activating it'
    return find(case, Reason.INACTIVE_BUT_DESIRED_ACTIVE, message).but(step, *_know(case, record, known))


def _resume(case: DeviceCase, record: ThinDevice, known: KnownDevice, live: LiveDevice) -> Plan:
    """Beyond its grace. RESUME would swap in a table that waits: one that is not wanted is cleared first."""
    plan = find(case, Reason.SUSPENDED, f"{live.info.name} is suspended: whoever opens it hangs")
    return plan.but(*let_go(case, live, _target(case, record, known)))


def _table(case: DeviceCase, record: ThinDevice, known: KnownDevice, live: LiveDevice) -> Plan | None:
    if shows_thin(live, pool_devno(case), known.thin_id):
        return None
    name, found = live.info.name, "; ".join(str(target) for target in live.table)
    wanted = _target(case, record, known)
    plan = find(case, Reason.WRONG_TABLE, f"the table of {name} is `{found}`, it should be `{wanted}`")
    plan = plan.but(Load(name, wanted, read_only=record.spec.read_only), *_know(case, record, known))
    if live.info.open_count == 0 or is_error(live, known.size):
        return plan
    message = (
        f"{plan.condition.message}, but it is held by {held(live)}: another table under an open device destroys it"
    )
    return plan.under(Reason.BUSY, message)


def _read_only(case: DeviceCase, record: ThinDevice, known: KnownDevice, live: LiveDevice) -> Plan | None:
    wanted = record.spec.read_only
    if live.info.read_only == wanted:
        return None
    name, words = live.info.name, "read-only" if wanted else "writable"
    plan = find(case, Reason.WRONG_TABLE, f"{name} should be {words}")
    if wanted and live.info.open_count:
        return plan.under(Reason.BUSY, f"{name} should be read-only, but is held by {held(live)}")
    target = _target(case, record, known)
    step = Load(name, target, read_only=True) if wanted else MakeWritable(name, target)
    return plan.but(step, *_know(case, record, known))


def _size(case: DeviceCase, record: ThinDevice, known: KnownDevice, live: LiveDevice) -> Plan | None:
    size = _target_size(case, record, known)
    if live.length >= size:
        return None
    plan = find(case, Reason.WRONG_SIZE, f"{live.info.name} has {live.length}s, it should have {size}s")
    load = Load(live.info.name, _target(case, record, known), read_only=record.spec.read_only)
    return plan.but(load, *_know(case, record, known))


def _rest(case: DeviceCase, record: ThinDevice, known: KnownDevice, live: LiveDevice) -> Plan:
    info = live.info
    if info.deferred_remove:
        plan = find(
            case, Reason.DEFERRED_REMOVE_PENDING, f"{info.name} is to vanish at its last close: cancelling that"
        )
        return plan.but(CancelDeferredRemove(info.name))
    if live.missing_nodes:
        plan = find(case, Reason.NODE_MISSING, f"missing: {', '.join(live.missing_nodes)}")
        return after_grace(case, Sign.NODE, plan.but(RefreshNodes(info.name, info.devno)), NODE_GRACE)
    growth = _grow(case, record, _now_known(case, record, known))
    if growth:
        return find(case, Reason.WRONG_SIZE, f"the filesystem on {info.name} is smaller than it").but(*growth)
    if isinstance(live.status, ThinFailure):
        return find(case, Reason.POOL_UNHEALTHY, f"{info.name} answers `{live.status.text}` when asked for its status")
    return converged(case).but(*_know(case, record, known))

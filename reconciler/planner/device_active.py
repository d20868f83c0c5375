"""Devices whose records are Active: the thin exists, the device is live with the right table, and its node is there."""

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
    Load,
    MakeWritable,
    RefreshNodes,
    SaveDevice,
    Step,
)
from reconciler.model.stored import StoredDevice
from reconciler.model.units import Sectors
from reconciler.planner.device_findings import (
    after_grace,
    converged,
    external_of,
    finding,
    hangs,
    held,
    is_error,
    pool_devno,
    resume_stalled,
    shows_thin,
    thin_target,
    wanted_size,
)
from reconciler.planner.facts import DeviceFacts
from reconciler.planner.plan import NODE_GRACE, Plan, Sign


def plan_active(facts: DeviceFacts, record: ThinDevice) -> Plan:
    known, live = facts.known, facts.live
    assert known is not None  # noqa: S101  # an unknown one is made first
    without_origin = _without_origin(facts, known)
    if without_origin is not None:
        return without_origin
    if live is None:
        return _activate(facts, record, known)
    if not live.info.live_table:
        load = Load(live.info.name, _target(facts, record, known), read_only=record.spec.read_only)
        plan = finding(facts, Reason.TABLELESS_SHELL, f"{live.info.name} was created, and no table was loaded")
        return after_grace(facts, Sign.NO_TABLE, plan.with_steps(load, *_know(facts, record, known)))
    if hangs(live):
        return _resume(facts, record, known, live)
    if live.info.inactive_table:
        plan = finding(facts, Reason.INACTIVE_TABLE_LEFT, f"a table waits in the inactive slot of {live.info.name}")
        return after_grace(facts, Sign.INACTIVE_TABLE, plan.with_steps(Clear(live.info.name)))
    return (
        _table(facts, record, known, live)
        or _read_only(facts, record, known, live)
        or _size(facts, record, known, live)
        or _rest(facts, record, known, live)
    )


def _without_origin(facts: DeviceFacts, known: StoredDevice) -> Plan | None:
    """Reports a device that is not live and has an external origin. Only a live table tells which disk that is, as
    device numbers are reused.
    """
    live, pool = facts.live, pool_devno(facts)
    if not known.external or (live is not None and (hangs(live) or external_of(live, pool, known.thin_id))):
        return None
    uuid = f" --uuid {known.uuid}" if known.uuid else ""
    table = f"0 {known.size} thin {pool} {known.thin_id} ORIGIN"
    down = f"take {known.dm_name} down, then " if live is not None else ""
    message = (
        f"{facts.key} was last active on an external origin, {known.external}: without it, what was never written would "
        f"read as zeros. Nothing is loaded: {down}bring it up with its origin, "
        f"`dmsetup create {known.dm_name}{uuid} --table '{table}'`"
    )
    return finding(facts, Reason.CONFLICT, message)


def _target_size(facts: DeviceFacts, record: ThinDevice, known: StoredDevice) -> Sectors:
    """The size that the device is to have; never less than the live one, where somebody may have written."""
    live = facts.live
    seen = live is not None and shows_thin(live, pool_devno(facts), known.thin_id)
    return max(known.size, wanted_size(facts, record), live.length if live is not None and seen else Sectors(0))


def _target(facts: DeviceFacts, record: ThinDevice, known: StoredDevice) -> Target:
    external = external_of(facts.live, pool_devno(facts), known.thin_id)
    return thin_target(facts, known.thin_id, _target_size(facts, record, known), external)


def _now_known(facts: DeviceFacts, record: ThinDevice, known: StoredDevice) -> StoredDevice:
    filesystem = record.spec.filesystem.type if record.spec.filesystem is not None else known.filesystem
    external = external_of(facts.live, pool_devno(facts), known.thin_id)
    return replace(
        known,
        active=True,
        frozen=False,
        size=_target_size(facts, record, known),
        read_only=record.spec.read_only,
        filesystem=filesystem,
        external=known.external if external is None else str(external),
    )


def _know(facts: DeviceFacts, record: ThinDevice, known: StoredDevice) -> tuple[Step, ...]:
    """Notes in the store what is about to become true, if that is new, and then grows the filesystem."""
    now_known = _now_known(facts, record, known)
    steps: list[Step] = [SaveDevice(facts.key, now_known)] if now_known != known else []
    return (*steps, *_grow(facts, record, now_known))


def _grow(facts: DeviceFacts, record: ThinDevice, known: StoredDevice) -> tuple[Step, ...]:
    if not known.filesystem or known.filesystem_size >= known.size or record.spec.read_only:
        return ()
    return (
        GrowFilesystem(known.dm_name, known.filesystem),
        SaveDevice(facts.key, replace(known, filesystem_size=known.size)),
    )


def _activate(facts: DeviceFacts, record: ThinDevice, known: StoredDevice) -> Plan:
    step = Activate(known.dm_name, known.uuid, _target(facts, record, known), read_only=record.spec.read_only)
    message = f"{known.dm_name} is to be active: activating it"
    if known.active:  # it was active before, and somebody or a reboot took it away
        message = f'device "{known.dm_name}" is recorded as Active but is not active, activating it'
    return finding(facts, Reason.INACTIVE_BUT_DESIRED_ACTIVE, message).with_steps(step, *_know(facts, record, known))


def _resume(facts: DeviceFacts, record: ThinDevice, known: StoredDevice, live: LiveDevice) -> Plan:
    """Resumes the device after its grace. RESUME swaps in the inactive table, so an unwanted one is cleared first."""
    plan = finding(facts, Reason.SUSPENDED, f"{live.info.name} is suspended: whoever opens it hangs")
    return plan.with_steps(*resume_stalled(facts, live, _target(facts, record, known)))


def _table(facts: DeviceFacts, record: ThinDevice, known: StoredDevice, live: LiveDevice) -> Plan | None:
    if shows_thin(live, pool_devno(facts), known.thin_id):
        return None
    name, found = live.info.name, "; ".join(str(target) for target in live.table)
    wanted = _target(facts, record, known)
    plan = finding(facts, Reason.WRONG_TABLE, f"the table of {name} is `{found}`, it should be `{wanted}`")
    plan = plan.with_steps(Load(name, wanted, read_only=record.spec.read_only), *_know(facts, record, known))
    if live.info.open_count == 0 or is_error(live, known.size):
        return plan
    message = (
        f"{plan.condition.message}, but it is held by {held(live)}: another table under an open device destroys it"
    )
    return plan.blocked(Reason.BUSY, message)


def _read_only(facts: DeviceFacts, record: ThinDevice, known: StoredDevice, live: LiveDevice) -> Plan | None:
    wanted = record.spec.read_only
    if live.info.read_only == wanted:
        return None
    name, words = live.info.name, "read-only" if wanted else "writable"
    plan = finding(facts, Reason.WRONG_TABLE, f"{name} should be {words}")
    if wanted and live.info.open_count:
        return plan.blocked(Reason.BUSY, f"{name} should be read-only, but is held by {held(live)}")
    target = _target(facts, record, known)
    if wanted:
        return plan.with_steps(Load(name, target, read_only=True), *_know(facts, record, known))
    # Mostly the table stays as it is. A longer one is loaded by the next plan, and only then the filesystem follows.
    is_long_enough = live.length >= target.length
    return plan.with_steps(MakeWritable(name, target), *(_know(facts, record, known) if is_long_enough else ()))


def _size(facts: DeviceFacts, record: ThinDevice, known: StoredDevice, live: LiveDevice) -> Plan | None:
    size = _target_size(facts, record, known)
    if live.length >= size:
        return None
    plan = finding(facts, Reason.WRONG_SIZE, f"{live.info.name} has {live.length}s, it should have {size}s")
    load = Load(live.info.name, _target(facts, record, known), read_only=record.spec.read_only)
    return plan.with_steps(load, *_know(facts, record, known))


def _rest(facts: DeviceFacts, record: ThinDevice, known: StoredDevice, live: LiveDevice) -> Plan:
    info = live.info
    if info.deferred_remove:
        plan = finding(
            facts, Reason.DEFERRED_REMOVE_PENDING, f"{info.name} is to vanish at its last close: cancelling that"
        )
        return plan.with_steps(CancelDeferredRemove(info.name))
    if live.missing_nodes:
        plan = finding(facts, Reason.NODE_MISSING, f"missing: {', '.join(live.missing_nodes)}")
        return after_grace(facts, Sign.NODE, plan.with_steps(RefreshNodes(info.name, info.devno)), NODE_GRACE)
    growth = _grow(facts, record, _now_known(facts, record, known))
    if growth:
        return finding(facts, Reason.WRONG_SIZE, f"the filesystem on {info.name} is smaller than it").with_steps(
            *growth
        )
    if isinstance(live.status, ThinFailure):
        return finding(
            facts, Reason.POOL_UNHEALTHY, f"{info.name} answers `{live.status.text}` when asked for its status"
        )
    return converged(facts).with_steps(*_know(facts, record, known))

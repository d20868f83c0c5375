"""Plans devices by the ladder of docs/reference/healing.md, "Devices": the first row that matches decides.

The rows that hold for every desired state are here; those of one desired state are in files of their own.
"""

from __future__ import annotations

from math import ceil

from reconciler.model.conditions import Condition, Reason
from reconciler.model.records import DeviceState, PoolState, ThinDevice, ThinPool
from reconciler.model.units import SECTOR, Sectors, sectors
from reconciler.planner.conflicts import plan_claims, plan_private
from reconciler.planner.device_active import plan_active
from reconciler.planner.device_findings import (
    after_suspension,
    converged,
    finding,
    hangs,
    pool_devno,
    resume_stalled,
    shows_thin,
)
from reconciler.planner.device_inactive import plan_absent, plan_inactive, take_down
from reconciler.planner.facts import Access, DeviceFacts
from reconciler.planner.making import plan_intent, plan_making
from reconciler.planner.orphans import plan_orphan
from reconciler.planner.ownership import off_grid
from reconciler.planner.plan import Plan, Sign, live_state, paused


def plan_device(facts: DeviceFacts) -> Plan:
    """The plan of the first row that matches."""
    record, pool_record = facts.record, facts.pool_record
    if record is None:
        return _plan_unrecorded(facts)
    if pool_record is None:
        return finding(facts, Reason.WAITING_FOR_POOL, f"no record names pool {facts.key.pool} on this host")
    plan = _plan_unpaused(facts, record, pool_record)
    if record.spec.paused:
        return paused(plan, f"{facts.key} is paused by its record")
    if pool_record.spec.paused:
        return paused(plan, f"{facts.key} is paused by the record of its pool")
    return plan


def _plan_unrecorded(facts: DeviceFacts) -> Plan:
    plan = plan_orphan(facts)
    nothing = facts.known is None and facts.intent is None
    if facts.pool_record is None or not facts.pool_record.spec.paused or nothing:
        return plan
    return paused(plan, f"{facts.key} is paused by the record of its pool")


def _plan_unpaused(facts: DeviceFacts, record: ThinDevice, pool_record: ThinPool) -> Plan:
    return (
        plan_private(facts)
        or plan_claims(facts)
        or _plan_pool(facts, record)
        or _plan_adoption_rules(facts, record, pool_record)
        or (plan_intent(facts, record) if facts.intent is not None else None)
        or _plan_lost(facts, record)
        or _plan_grace(facts)
        or _plan_waiting(facts, record, pool_record)
        or _plan_desired(facts, record)
    )


def _plan_pool(facts: DeviceFacts, record: ThinDevice) -> Plan | None:
    """Blocks what the state of the pool forbids."""
    access = facts.access
    if access.access is Access.FULL:
        return None
    nothing_of_it = facts.known is None and facts.intent is None and facts.live is None
    if record.spec.state is DeviceState.ABSENT and nothing_of_it:
        return converged(facts, "as desired: absent")
    if access.access is Access.RELEASE and (record.spec.state is DeviceState.ABSENT or facts.intent is not None):
        return None  # deleting makes room, and a half-done creation is ended
    if access.access in {Access.RELEASE, Access.MAINTAIN}:
        return _maintain(facts, record)
    resting = record.spec.state in {DeviceState.INACTIVE, DeviceState.COMMITTED}
    pool_down = facts.pool_record is not None and facts.pool_record.spec.state is not PoolState.ACTIVE
    if resting and pool_down and facts.known is not None and facts.live is None and facts.pool.device is None:
        return converged(facts, "as desired; its pool is inactive")
    return finding(facts, access.reason, access.message)


def _maintain(facts: DeviceFacts, record: ThinDevice) -> Plan:
    """Plans a device in a pool that must not be written to: it may be resumed and taken down, nothing else."""
    live = facts.live
    message = facts.access.message
    if live is None or facts.known is None:
        return finding(facts, facts.access.reason, message)
    if hangs(live):
        plan = finding(facts, Reason.SUSPENDED, f"{live.info.name} is suspended, and {message}")
        return after_suspension(facts, plan.with_steps(*resume_stalled(facts, live)))
    if record.spec.state is not DeviceState.ACTIVE and live.info.open_count == 0:
        return take_down(facts, live, record)
    return finding(facts, facts.access.reason, message)


def _plan_adoption_rules(facts: DeviceFacts, record: ThinDevice, pool_record: ThinPool) -> Plan | None:
    """Reports records in an external pool that would create or delete something there."""
    if not pool_record.spec.external:
        return None
    if facts.intent is not None:
        message = f"an operation on {facts.key} began while pool {facts.key.pool} was the reconciler's own"
        return finding(
            facts, Reason.INVALID_CHANGE, f"{message}: take `external` out of the pool's record until it is done"
        )
    if record.spec.adopt is None:
        message = f"pool {facts.key.pool} is external: name the thin with `adopt: {{deviceId: N, dmName: NAME}}`"
        return finding(facts, Reason.INVALID_CHANGE, message)
    if record.spec.state is DeviceState.ABSENT:
        message = f"pool {facts.key.pool} is external: its owner deletes; remove the record instead"
        return finding(facts, Reason.INVALID_CHANGE, message)
    return None


def _plan_lost(facts: DeviceFacts, record: ThinDevice) -> Plan | None:
    """Reports a recorded id that is not in the pool. An empty device must never take the place of one with data."""
    known = facts.known
    if known is None or facts.live is not None or facts.ids is None or record.spec.state is DeviceState.ABSENT:
        return None
    if known.thin_id in facts.ids:
        return None
    if known.adopted:
        message = (
            f"thin id {known.thin_id}, which {facts.key} adopted, is not in the pool any more: whoever made it has deleted it, "
            f"or moved {known.dm_name} to another (an LVM merge does): name that in `adopt`, or remove the record"
        )
        return finding(facts, Reason.METADATA_MISMATCH, message)
    message = (
        f"thin id {known.thin_id} of {facts.key} is not in the pool: its data is lost. Nothing is made in its place: "
        f"`dm-reconciler doctor --fix` or `forget device {facts.key}` lets it be made anew, `state: Absent` lets it go"
    )
    return finding(facts, Reason.METADATA_MISMATCH, message)


def _plan_grace(facts: DeviceFacts) -> Plan | None:
    """Reports a suspended device. It is somebody's work within the grace; later, whoever opens the device hangs."""
    live = facts.live
    if live is None or not live.info.suspended:
        return None
    left = facts.grace.left(Sign.SUSPENDED)
    if left <= 0 or (facts.known is not None and facts.known.frozen):
        return None
    name = live.info.name
    message = f"{name} is suspended: whoever opens it hangs; it is resumed in {ceil(left)} s unless whoever did it does"
    return Plan(Condition(Reason.SUSPENDED, message, live_state(live, exists=True)), requeue_after=left)


def _plan_waiting(facts: DeviceFacts, record: ThinDevice, pool_record: ThinPool) -> Plan | None:
    """Waits for a pool that is on its way down, or gone: nothing is brought up in it any more."""
    if pool_record.spec.state is PoolState.ACTIVE or record.spec.state is DeviceState.ABSENT:
        return None
    if facts.known is not None and (facts.live is not None or record.spec.state is not DeviceState.ACTIVE):
        return None
    state = pool_record.spec.state.value
    return finding(facts, Reason.WAITING_FOR_POOL, f"the record of pool {facts.key.pool} says {state}")


def _plan_desired(facts: DeviceFacts, record: ThinDevice) -> Plan:
    state = record.spec.state
    if state is DeviceState.ABSENT:
        return plan_absent(facts, record)
    invalid = _off_grid(facts, record) or _invalid_change(facts, record)
    if invalid:
        plan = finding(facts, Reason.INVALID_CHANGE, invalid)
        return (
            plan.with_steps(*resume_stalled(facts, facts.live))
            if facts.live is not None and hangs(facts.live)
            else plan
        )
    if facts.known is None:
        return plan_making(facts, record)
    if state is DeviceState.ACTIVE:
        return plan_active(facts, record)
    return plan_inactive(facts, record)


def _off_grid(facts: DeviceFacts, record: ThinDevice) -> str | None:
    """Why the kernel would refuse every table of the device (EINVAL) because the disk below has larger sectors; None if
    it would not.
    """
    known, spec, sector = facts.known, record.spec, facts.pool.data.sector
    size = sectors(spec.size) if spec.size is not None else known.size if known is not None else Sectors(0)
    if off_grid(size, sector):
        grid = sector // SECTOR
        fits = [size // grid * grid, (size // grid + 1) * grid]
        sizes = fits if known is None and fits[0] else fits[1:]
        return (
            f"{facts.key} has {size}s, and the disk below pool {facts.key.pool} has sectors of {sector} bytes: no table on it "
            f"has that length; write `size: {'s` or `size: '.join(map(str, sizes))}s`"
        )
    is_made = known is None and spec.filesystem is not None and spec.snapshot_of is None
    if is_made and spec.filesystem is not None and spec.filesystem.block_size < sector:
        return f"{facts.key}: no filesystem on sectors of {sector} bytes has smaller blocks: write `blockSize: 4KiB`"
    return None


def _invalid_change(facts: DeviceFacts, record: ThinDevice) -> str | None:
    """What the record tries to change about an existing device and cannot; None if nothing."""
    known, spec = facts.known, record.spec
    if known is None:
        return None
    if record.dm_name != known.dm_name:
        return f"{facts.key} has the dm name {known.dm_name}, its record says {record.dm_name} (`adopt` decides it)"
    if known.committed and spec.state is not DeviceState.COMMITTED:
        return (
            f"{facts.key} is committed, its content is final: take a snapshot of it instead of setting `{spec.state}`"
        )
    if spec.snapshot_of is not None and spec.snapshot_of != known.origin:
        made = f"a snapshot of {known.origin}" if known.origin else "not made as a snapshot"
        return f"{facts.key} is {made}; `snapshotOf` is read once, when a device is made"
    if spec.filesystem is not None and known.filesystem and spec.filesystem.type != known.filesystem:
        return f"{facts.key} has {known.filesystem}; a filesystem is made once, when its device is made"
    if spec.adopt is not None and spec.adopt.device_id != known.thin_id:
        return f"{facts.key} has thin id {known.thin_id}, `adopt` says {spec.adopt.device_id}"
    seen = facts.live if facts.live is not None and shows_thin(facts.live, pool_devno(facts), known.thin_id) else None
    largest = max(known.size, seen.length if seen is not None else known.size)
    if spec.size is not None and sectors(spec.size) < largest:
        return f"{facts.key} has {largest}s, the record says {sectors(spec.size)}s: a device never shrinks"
    return None

"""Invariants of all plans, tested on thousands of random facts, however unlikely."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, ErrorTable, PoolFailure, PoolMode, ThinFailure, ThinTable, read_table
from reconciler.model.live import Below, LiveBacking, LiveDevice, LivePool, PathKind, Superblock, ThinEntry
from reconciler.model.steps import (
    Activate,
    ActivatePool,
    Clear,
    CompleteIntent,
    DeleteFile,
    DeleteThin,
    HostStep,
    Load,
    LoadPool,
    Remove,
    RemovePool,
    Resume,
    SaveDevice,
    Step,
    ZeroSuperblock,
)
from reconciler.model.stored import IntentKind
from reconciler.model.units import Bytes
from reconciler.planner.facts import Access, DeviceFacts, Origin, PoolFacts, PruneVerdict
from reconciler.planner.ownership import access_to, owns_device, owns_pool
from reconciler.planner.plan import Plan, Sign
from tests.unit.planner import builders as a
from tests.unit.planner.small_world import world

NAMES_OF_OTHERS = ("LVM-x", a.FOREIGN_UUID)
flags = st.booleans()
sizes = st.sampled_from([8, a.SIZE - 8, a.SIZE, a.SIZE + 8, 2 * a.SIZE])
tables = st.one_of(
    st.just((a.table_of(),)),
    sizes.map(lambda size: (a.table_of(size=size),)),
    st.just((a.table_of(9),)),
    st.just((a.table_of(pool=Devno(253, 9)),)),
    st.just((a.table_of(a.NEW_ID),)),
    sizes.map(a.error_table),
    sizes.map(a.other_table),
)
grace = st.dictionaries(st.sampled_from(list(Sign)), st.sampled_from([0.0, 0.5, 4.9, 5.0, 60.0]))


@st.composite
def devices(draw: st.DrawFn, name: str = a.NAME, uuids: tuple[str, ...] = (a.UUID,)) -> LiveDevice:
    uuid = draw(st.sampled_from([*uuids * 6, "", *NAMES_OF_OTHERS]))
    opened = draw(st.sampled_from([0, 0, 1]))
    if draw(st.integers(0, 7)) == 0:
        return a.shell(name, uuid, opened=opened, suspended=draw(flags))
    return a.thin(
        name=name,
        uuid=uuid,
        table=draw(tables),
        waiting=draw(st.one_of(st.just(()), tables)),
        missing=draw(st.sampled_from([(), (), ("/dev/mapper/tank-a",)])),
        status=draw(st.sampled_from([None, None, ThinFailure("Fail")])),
        opened=opened,
        suspended=draw(flags),
        read_only=draw(st.sampled_from([False, False, True])),
        deferred_remove=draw(st.sampled_from([False, False, True])),
    )


specs = st.fixed_dictionaries(
    {},
    optional={
        "size": st.one_of(sizes.map(lambda size: f"{size}s"), st.none()),
        "snapshotOf": st.just("golden"),
        "filesystem": st.sampled_from([{"type": "ext4"}, {"type": "xfs"}]),
        "readOnly": flags,
        "discardOnDelete": flags,
        "paused": st.integers(0, 9).map(lambda number: number == 9),
        "adopt": st.sampled_from([{"deviceId": a.ID, "dmName": a.NAME}, {"deviceId": 9, "dmName": "vg-thin"}]),
    },
)

known_devices = st.builds(
    a.known,
    uuid=st.sampled_from([a.UUID, a.UUID, ""]),
    active=flags,
    committed=st.sampled_from([False, False, True]),
    read_only=flags,
    filesystem=st.sampled_from(["", "ext4"]),
    filesystem_size=st.sampled_from([0, a.SIZE]),
    adopted=flags,
    origin=st.sampled_from(["", "golden"]),
    frozen=st.sampled_from([False, False, True]),
)

statuses = st.one_of(
    st.builds(
        a.status,
        st.sampled_from([PoolMode.RW, PoolMode.RW, PoolMode.RO, PoolMode.OUT_OF_DATA_SPACE, PoolMode.NEEDS_CHECK]),
        st.sampled_from([0, a.TRANSACTION, a.TRANSACTION, a.TRANSACTION + 1, 9]),
        data_used=st.sampled_from([0, 10, 15000, 16384]),
        metadata_used=st.sampled_from([100, 15000]),
        metadata_total=st.sampled_from([16384, 8192]),
    ),
    st.just(PoolFailure(PoolMode.FAIL, "Fail")),
)

backings = st.builds(
    LiveBacking,
    kind=st.sampled_from([PathKind.FILE, PathKind.FILE, PathKind.MISSING, PathKind.BLOCK]),
    size=st.sampled_from([Bytes(0), a.DATA_SIZE, a.METADATA_SIZE]),
    devno=st.sampled_from([a.DATA_DEVNO, a.METADATA_DEVNO, None]),
    loops=st.sampled_from(
        [
            (),
            (a.loop(a.DATA_DEVNO, a.DATA_SIZE),),
            (a.loop(a.DATA_DEVNO, 512, offset=512),),
            (a.loop(a.DATA_DEVNO, a.DATA_SIZE, read_only=True),),
        ]
    ),
    free_space=st.sampled_from([Bytes(0), Bytes(10**12)]),
    allocated=st.sampled_from([Bytes(0), Bytes(1)]),
    folder_exists=flags,
    superblock=st.sampled_from(list(Superblock)),
    transaction_id=st.sampled_from([None, 0, a.TRANSACTION]),
    data_blocks_used=st.sampled_from([0, 10]),
    signature=st.sampled_from(["", "", "ext4"]),
    used_by=st.sampled_from([(), (), ("swap",)]),
)


@st.composite
def live_pools(draw: st.DrawFn) -> LivePool:
    data = draw(st.one_of(st.just(a.data()), backings))
    metadata = draw(st.one_of(st.just(a.metadata()), st.just(a.at_rest()), backings))
    if draw(st.integers(0, 3)) == 0:
        return LivePool(None, None, data, metadata)
    table = a.pool_table(
        draw(st.sampled_from([a.LENGTH, a.LENGTH // 2])), discards=draw(st.sampled_from(["passdown", "ignore"]))
    )
    device = a.pool_device(
        draw(st.one_of(st.just(table), st.just(table), st.just(a.other_table()))),
        draw(st.sampled_from([a.POOL_UUID, a.POOL_UUID, "", "LVM-x"])),
        opened=draw(st.sampled_from([0, 0, 1])),
        waiting=draw(st.sampled_from([(), (), a.error_table()])),
        suspended=draw(st.sampled_from([False, False, True])),
        live_table=draw(st.sampled_from([True, True, True, False])),
        deferred_remove=draw(st.sampled_from([False, False, True])),
    )
    quiet = device.info.suspended or not device.info.live_table
    below = draw(st.sampled_from([(), (), (), (Below("pv", "LVM-x"),)]))
    return LivePool(device, None if quiet or below else draw(statuses), data, metadata, below)


pool_records = st.builds(
    lambda spec: a.pool_record(**spec),
    st.fixed_dictionaries(
        {},
        optional={
            "state": st.sampled_from(["Active", "Active", "Inactive", "Absent"]),
            "adopt": flags,
            "paused": st.integers(0, 9).map(lambda number: number == 9),
            "extend": st.just({"threshold": "80%", "step": "50%", "max": "4GiB"}),
            "discards": st.sampled_from(["passdown", "ignore"]),
            "blockSize": st.sampled_from(["64KiB", "64KiB", "128KiB"]),
        },
    )
    | st.just({"external": True}),
)

known_pools = st.builds(
    a.known_pool,
    created=st.sampled_from([True, True, False]),
    transaction_id=st.sampled_from([0, a.TRANSACTION, a.TRANSACTION]),
    data_size=st.sampled_from([a.DATA_SIZE, Bytes(2 * a.DATA_SIZE)]),
    made_files=st.sampled_from([(), ("/srv/tank.data",), ("/srv/former", "/srv/tank.meta")]),
    external=st.sampled_from([False, False, False, True]),
)

id_maps = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from([3, a.ID, a.NEW_ID, 9]),
        st.builds(ThinEntry, st.sampled_from([0, 5]), st.sampled_from([a.TRANSACTION, 1])),
    ),
)

intents = st.one_of(
    st.none(),
    st.builds(
        a.intent,
        st.sampled_from(list(IntentKind)),
        st.sampled_from([a.ID, a.NEW_ID]),
        transaction_id=st.sampled_from([a.TRANSACTION, 3]),
        made=flags,
        filesystem=st.sampled_from(["", "ext4"]),
        origin=st.sampled_from(["", "golden"]),
        suspended=st.sampled_from(["", "tank-golden"]),
    ),
)


@st.composite
def pool_cases(draw: st.DrawFn, *, healthy: bool = False) -> PoolFacts:
    record = draw(pool_records)
    return a.pool_facts(
        recorded=record if healthy else draw(st.sampled_from([record, record, record, None])),
        knowing=draw(known_pools if healthy else st.one_of(known_pools, st.none())),
        live=a.live_pool(of=a.status()) if healthy else draw(live_pools()),
        seen=draw(grace),
        ids=draw(id_maps),
        devices_live=draw(st.sampled_from([(), (), ("tank-a",)])),
        known_devices=draw(st.sampled_from([(), (), ("a",)])),
        needed=draw(st.sampled_from([False, False, True])),
        stuck="no answer" if not healthy and draw(st.integers(0, 9)) == 9 else "",
    )


@st.composite
def cases(draw: st.DrawFn) -> DeviceFacts:
    pool = draw(st.one_of(st.just(a.pool_facts()), pool_cases(healthy=True), pool_cases()))
    spec = draw(specs)
    if "adopt" in spec:
        spec.pop("snapshotOf", None)
    elif "snapshotOf" not in spec and spec.get("size", "") is None:
        del spec["size"]
    live_origin = draw(st.one_of(st.none(), devices("tank-golden", (a.GOLDEN_UUID,))))
    this = a.facts(
        draw(st.sampled_from(["Active", "Active", "Inactive", "Committed", "Absent"])),
        live=draw(st.one_of(st.none(), devices())) if pool.live.device is not None else None,
        knowing=draw(st.one_of(st.none(), known_devices, known_devices)),
        pool=pool,
        seen=draw(grace),
        spec=spec,
        intent=draw(st.one_of(st.none(), intents)),
        id_taken=draw(st.sampled_from([False, False, True])),
        other_intent=draw(st.sampled_from(["", "", "tank/other"])),
        origin=draw(st.sampled_from([None, Origin("golden", "tank-golden", a.known_golden(), live_origin)])),
        private=draw(devices(a.PRIVATE, (f"{a.UUID}-private",))) if draw(st.integers(0, 9)) == 9 else None,
        elsewhere=draw(st.sampled_from([*[()] * 9, ("copy",)])),
        ids=draw(id_maps),
        prune=draw(st.sampled_from(list(PruneVerdict))),
    )
    return replace(this, record=None) if draw(st.integers(0, 4)) == 0 else this


def on_host(plan: Plan) -> list[HostStep]:
    return [step for step in plan.steps if isinstance(step, HostStep)]


def pool_devno(facts: DeviceFacts) -> Devno | None:
    return facts.pool.device.info.devno if facts.pool.device is not None else None


def own(facts: DeviceFacts, device: LiveDevice | None) -> bool:
    if device is None:
        return True
    if device is facts.private:
        return device.info.uuid == f"{a.UUID}-private"
    known = facts.origin.known if facts.origin is not None and device is facts.origin.live else facts.known
    return owns_device(device, known, pool_devno(facts))


def live_subjects(facts: DeviceFacts) -> dict[str, LiveDevice]:
    origin = facts.origin.live if facts.origin is not None else None
    found = (facts.live, facts.private, origin)
    return {device.info.name: device for device in found if device is not None}


@settings(max_examples=600, deadline=None)
@given(cases())
def test_whatever_the_case_of_a_device(facts: DeviceFacts) -> None:
    plan = a.plan(facts)
    event(plan.reason)
    assert plan == a.plan(facts), "the same case has the same plan"
    assert plan.condition.message
    assert plan.requeue_after is None or plan.requeue_after > 0
    assert not (plan.needs_ids and (plan.steps or facts.ids is not None))
    _holds_paused(facts, plan)
    _holds_converged(plan)
    _holds_access(facts, plan)
    _holds_foreign(facts, plan)
    _holds_open(facts, plan)
    _holds_deletion(facts, plan)
    _holds_suspension(facts, plan)


def _holds_paused(facts: DeviceFacts, plan: Plan) -> None:
    paused = facts.record is not None and facts.record.spec.paused
    if facts.pool_record is not None and (paused or facts.pool_record.spec.paused):
        assert plan.steps == ()


def _holds_converged(plan: Plan) -> None:
    if plan.reason is Reason.CONVERGED:
        assert on_host(plan) == []


def _holds_access(facts: DeviceFacts, plan: Plan) -> None:
    if facts.access.access is Access.NONE:
        assert plan.steps == ()
    if facts.access.access is Access.MAINTAIN:
        assert all(isinstance(step, Resume | Clear | Remove | SaveDevice) for step in plan.steps)


def _holds_foreign(facts: DeviceFacts, plan: Plan) -> None:
    """No step concerns a device that is not provably ours."""
    live = live_subjects(facts)
    for step in on_host(plan):
        assert own(facts, live.get(step.subject)), step
        assert step.subject != "copy"


def _holds_open(facts: DeviceFacts, plan: Plan) -> None:
    """An open device is never removed, and never given other content."""
    live = live_subjects(facts)
    for step in plan.steps:
        device = live.get(step.subject) if isinstance(step, Remove | Load) else None
        if device is None or not device.info.open_count:
            continue
        assert isinstance(step, Load), step
        wanted, found = read_table((step.table,)), read_table(device.table)
        assert isinstance(wanted, ThinTable)
        assert not (step.read_only and not device.info.read_only)
        if isinstance(found, ThinTable):
            assert (found.pool, found.thin_id) == (wanted.pool, wanted.thin_id)
            assert wanted.length >= found.length
        elif device.info.live_table:
            assert isinstance(found, ErrorTable)


def _holds_deletion(facts: DeviceFacts, plan: Plan) -> None:
    """Data is deleted only if somebody asked for it, or if an intent of ours made it."""
    record, intent, known = facts.record, facts.intent, facts.known
    for step in plan.steps:
        if isinstance(step, DeleteThin):
            assert facts.access.may_delete
            assert not (facts.pool_record is not None and facts.pool_record.spec.external)
            asked = (record is not None and record.spec.state == "Absent") or (
                record is None and facts.prune is PruneVerdict.DELETE
            )
            if intent is not None:
                assert step.thin_id == intent.thin_id
                assert not facts.id_taken or intent.kind is IntentKind.DELETE
            else:
                assert asked
                assert known is not None
                assert step.thin_id == known.thin_id
        if isinstance(step, Activate | Load) and known is not None:
            table = read_table((step.table,))
            assert isinstance(table, ThinTable)
            assert table.thin_id == known.thin_id
            assert table.length >= known.size, "a device never shrinks"
        if isinstance(step, CompleteIntent) and step.device is None:
            assert intent is not None or any(isinstance(other, DeleteThin) for other in plan.steps)


def _holds_suspension(facts: DeviceFacts, plan: Plan) -> None:
    live = facts.live
    if live is None or not live.info.suspended or facts.grace.left(Sign.SUSPENDED) <= 0:
        return
    if facts.known is not None and facts.known.frozen:
        return
    assert not any(step.subject == live.info.name for step in on_host(plan) if not isinstance(step, Remove))


@settings(max_examples=500, deadline=None)
@given(pool_cases())
def test_whatever_the_case_of_a_pool(facts: PoolFacts) -> None:
    plan = a.plan(facts)
    event(plan.reason)
    assert plan == a.plan(facts)
    assert plan.condition.message
    assert plan.requeue_after is None or plan.requeue_after > 0
    assert not (plan.needs_ids and (plan.steps or facts.ids is not None))
    access_to(facts)
    _holds_converged(plan)
    if facts.record is None or facts.record.spec.paused or facts.record.spec.external or facts.stuck:
        assert on_host(plan) == []
    if facts.live.suspended_below:
        assert plan.steps == ()
    if facts.live.device is not None and facts.record is not None and not _ours(facts):
        assert plan.steps == ()
    _holds_destruction(facts, plan.steps)
    _holds_pool_loads(facts, plan.steps)


def _ours(facts: PoolFacts) -> bool:
    external = facts.known is not None and facts.known.external
    return owns_pool(facts.live, facts.record, None if external else facts.known)


def _holds_destruction(facts: PoolFacts, steps: tuple[Step, ...]) -> None:
    """A pool is deleted only if its record says so, nobody uses it, and it is provably empty."""
    known = facts.known
    for step in steps:
        if isinstance(step, RemovePool):
            assert facts.live.device is not None
            assert not facts.live.device.info.live_table or (
                not facts.devices_live and not facts.live.device.info.open_count
            )
        if isinstance(step, ZeroSuperblock | DeleteFile):
            assert facts.record is not None
            assert known is not None
            assert facts.record.spec.state == "Absent" or (not known.created and known.transaction_id)
            assert not facts.known_devices
            assert facts.live.device is None or facts.ids == {}
            assert facts.live.device is not None or not known.created
        if isinstance(step, DeleteFile) and known is not None:
            assert step.subject in known.made_files


def _holds_pool_loads(facts: PoolFacts, steps: tuple[Step, ...]) -> None:
    """The kernel formats zeroed metadata, so that is loaded only for a pool that the store never saw to exist."""
    for step in steps:
        if isinstance(step, ActivatePool):
            assert facts.live.device is None
            assert not step.fresh or facts.known is None or not facts.known.created
        if isinstance(step, LoadPool):
            assert facts.live.device is not None
            assert facts.live.device.info.live_table


@settings(max_examples=250, deadline=None)
@given(
    desired=st.sampled_from(["Active", "Inactive", "Committed", "Absent"]),
    spec=specs,
    live=st.one_of(st.none(), devices()),
    known=st.booleans(),
    golden=st.one_of(st.none(), devices("tank-golden", (a.GOLDEN_UUID,))),
)
def test_no_plan_leads_back_to_itself(
    desired: str, spec: dict[str, Any], live: LiveDevice | None, known: bool, golden: LiveDevice | None
) -> None:
    """Steps that take effect lead, in a few rounds, to a plan without steps, and the store accepts all of them."""
    usual = {"size": f"{a.SIZE}s"} if "snapshotOf" not in spec else {"size": None}
    made = {name: value for name, value in spec.items() if name != "adopt" and value is not None}
    here = world(a.record(desired, **{**usual, **made}), known=known, live=live)
    if golden is not None:
        here.devices["tank-golden"] = golden
    foreign = {name: device for name, device in here.devices.items() if device.info.uuid in NAMES_OF_OTHERS}
    event(here.settle().reason)
    assert foreign.items() <= here.devices.items()
    assert here.knowledge.intent is None

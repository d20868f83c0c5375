"""A model in which steps take effect: one device, its origin, the ids of its pool, and the rules of the store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reconciler.model.live import LiveDevice, ThinEntry
from reconciler.model.names import Key
from reconciler.model.records import ThinDevice
from reconciler.model.steps import (
    Activate,
    CancelDeferredRemove,
    Clear,
    CreateSnapshot,
    CreateThin,
    DeleteThin,
    HostStep,
    Load,
    RefreshNodes,
    Remove,
    Resume,
    SetTransactionId,
    Step,
    StoreStep,
)
from reconciler.model.stored import Intent
from reconciler.planner.facts import DeviceFacts, Origin, PruneVerdict
from reconciler.planner.plan import Plan, signs
from reconciler.store.transitions import IdOwner, IdUse, StoredPoolState, after, free_thin_id
from tests.unit.planner import builders as a

ROUNDS = 10


@dataclass
class SmallWorld:
    record: ThinDevice | None
    knowledge: StoredPoolState
    devices: dict[str, LiveDevice] = field(default_factory=dict)
    ids: dict[int, ThinEntry] = field(default_factory=dict)
    transaction: int = a.TRANSACTION
    prune: PruneVerdict = PruneVerdict.RETAIN
    seen: float = a.LONG_AGO
    """Seconds for which every sign has been seen."""

    def facts(self) -> DeviceFacts:
        knowledge, live = self.knowledge, self.devices.get(a.NAME)
        known = knowledge.devices.get(a.KEY.device)
        shown = signs(live)
        new_id = free_thin_id(knowledge, self.ids)
        assert new_id is not None
        pool = a.pool_facts(live=a.live_pool(of=a.status(transaction=self.transaction)), knowing=knowledge.pool)
        this = a.facts(
            None,
            live=live,
            knowing=known,
            pool=pool,
            seen=dict.fromkeys(shown, self.seen),
            intent=knowledge.intent,
            id_taken=self._is_taken(knowledge.intent),
            origin=self._origin(),
            ids=dict(self.ids),
            private=self.devices.get(a.PRIVATE),
            prune=self.prune,
        )
        return replace(this, record=self.record, new_id=new_id)

    def _is_taken(self, intent: Intent | None) -> bool:
        return intent is not None and self.knowledge.ids.get(intent.thin_id) == IdOwner(IdUse.TAKEN)

    def _origin(self) -> Origin | None:
        intent = self.knowledge.intent
        wanted = self.record.spec.snapshot_of if self.record is not None else None
        name = (intent.origin if intent is not None else "") or wanted
        if not name:
            return None
        return Origin(name, "tank-golden", self.knowledge.devices.get(name), self.devices.get("tank-golden"))

    def plan(self) -> Plan:
        return a.plan(self.facts())

    def do(self, step: Step) -> None:
        if isinstance(step, StoreStep):
            self.knowledge = after(self.knowledge, step)
        else:
            self._on_host(step)

    def settle(self) -> Plan:
        """Plans and does steps until there are none left; fails if that never happens."""
        for _ in range(ROUNDS):
            plan = self.plan()
            assert not plan.needs_ids, "the ids are there"
            if not plan.steps:
                return plan
            for step in plan.steps:
                self.do(step)
        raise AssertionError(f"after {ROUNDS} rounds there still is {self.plan()}")

    def _on_host(self, step: HostStep) -> None:  # noqa: C901  # one line a step
        match step:
            case Activate(name, uuid, table, read_only):
                assert name not in self.devices
                assert int(table.params.split()[1]) in self.ids
                self.devices[name] = a.thin(name=name, uuid=uuid, table=(table,), read_only=read_only)
            case Load(name, table, read_only):
                changes = {"suspended": False, "inactive_table": False, "live_table": True, "read_only": read_only}
                self._change(name, **changes)
                self.devices[name] = replace(self.devices[name], table=(table,), inactive=())
            case Resume(name):
                self._resume(name)
            case Clear(name):
                self._change(name, inactive_table=False)
                self.devices[name] = replace(self.devices[name], inactive=())
            case Remove(name, uuid):
                assert (self.devices[name].info.uuid, self.devices[name].info.open_count) == (uuid, 0)
                del self.devices[name]
            case CancelDeferredRemove(name):
                self._change(name, deferred_remove=False)
            case RefreshNodes(name):
                self.devices[name] = replace(self.devices[name], missing_nodes=())
            case CreateThin(_, thin_id) | CreateSnapshot(_, thin_id):
                assert thin_id not in self.ids
                self.ids[thin_id] = ThinEntry(0, self.transaction)
            case DeleteThin(_, thin_id, transaction):
                assert transaction == self.transaction
                self.ids.pop(thin_id, None)
            case SetTransactionId(_, old):
                assert self.transaction in {old, old + 1}
                self.transaction = old + 1

    def _resume(self, name: str) -> None:
        device = self.devices[name]
        assert device.info.live_table or device.info.inactive_table, "the kernel answers EINVAL"
        table = device.inactive or device.table
        self._change(name, suspended=False, inactive_table=False, live_table=True)
        self.devices[name] = replace(self.devices[name], table=table, inactive=())

    def _change(self, name: str, **flags: bool) -> None:
        device = self.devices[name]
        self.devices[name] = replace(device, info=replace(device.info, **flags))  # type: ignore[arg-type]


def knowledge(*, known: bool = True, golden: bool = True, intent: Intent | None = None) -> StoredPoolState:
    devices = {"a": a.known()} if known else {}
    if golden:
        devices["golden"] = a.known_golden()
    held = {device.thin_id: IdOwner(IdUse.DEVICE, name) for name, device in devices.items()}
    if intent is not None:
        held.setdefault(intent.thin_id, IdOwner(IdUse.INTENT, intent.key.device))
    return StoredPoolState(a.known_pool(), devices, intent, held, last_thin_id=a.NEW_ID - 1)


def world(record: ThinDevice | None, *, known: bool = True, live: LiveDevice | None = None) -> SmallWorld:
    here = SmallWorld(record, knowledge(known=known), ids=dict(a.ids(3, *([a.ID] if known else []))))
    if live is not None:
        here.devices[a.NAME] = live
    return here


GOLDEN = Key("tank", "golden")

"""What no call of the daemon may do, looked at in the moment in which it does it.

Somebody else may change the host between two calls of one step, and the kernel offers nothing against that: what is
held against a step is what was so when the step began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from reconciler.controller.desired import Desired
from reconciler.kernel.simulated import Call
from reconciler.kernel.simulated.device import Loaded
from reconciler.kernel.simulated.machine import Disk
from reconciler.kernel.simulated.pool import thin_of
from reconciler.model.dm_tables import PoolTable, read_table
from reconciler.model.names import Key
from reconciler.model.records import DeviceState, PoolState, Prune
from reconciler.model.steps import BeginIntent, Resume, StoreStep
from reconciler.model.stored import IntentKind, StoredDevice
from tests.simulation.host import is_torn

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet
    from tests.simulation.worker import Worker

GRACE: Final = 5.0
PRUNE_DELAY: Final = 60.0
_ON_DEVICES: Final = frozenset({"load", "resume", "suspend", "remove", "clear", "message"})


class Violation(AssertionError):  # noqa: N818  # says what it is
    """A promise is broken."""


@dataclass(frozen=True, slots=True)
class Began:
    """How things were when a step, or a look, began."""

    time: float
    desired: Desired
    foreign: frozenset[str]
    frozen: dict[str, float]
    live: frozenset[str]
    showed: dict[str, Loaded]
    """The live tables of devices."""
    waiting: frozenset[str]
    """Devices with a table in the inactive slot."""


class Invariants:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._began: dict[tuple[str, bool], Began] = {}
        """By pool, and whether it is of its second worker."""
        self._desired: dict[str, Desired] = {}
        self._frozen: dict[tuple[str, bool], dict[str, float]] = {}
        """What others had suspended when the daemon last looked: a plan is made from that."""

    def pass_began(self, pool: str) -> None:
        """It goes by the records of that moment to its end."""
        self._desired[pool] = self._fleet.desired

    def began(self, pool: str, *, look: bool = False, second: bool = False) -> None:
        """A question to the pool's worker."""
        fleet, asked = self._fleet, (pool, second)
        live = {name: device.live for name, device in fleet.host.devices.by_name.items() if device.live is not None}
        if look or asked not in self._frozen:
            suspended = {name for name, device in fleet.host.devices.by_name.items() if device.suspended}
            self._frozen[asked] = {name: since for name, since in fleet.seen_states.frozen.items() if name in suspended}
        self._began[asked] = Began(
            fleet.clock.now(),
            fleet.desired if second else self._desired[pool],
            frozenset(fleet.seen_states.foreign),
            self._frozen[asked],
            frozenset(live),
            live,
            frozenset(name for name, device in fleet.host.devices.by_name.items() if device.inactive is not None),
        )

    def before(self, worker: Worker, call: Call) -> None:
        began = self._began[worker.pool, worker.is_second]
        name = str(call.args[0])
        if call.part == "dm" and call.name in _ON_DEVICES and name in began.foreign:
            raise Violation(f"{call}: {name} is somebody else's")
        checks = {
            "create": self._create,
            "load": self._load,
            "resume": self._resume,
            "remove": self._remove,
            "message": self._message,
            "mkfs": self._mkfs,
            "discard": self._discard,
            "delete_file": self._delete_file,
            "zero": self._zero,
            "make_file": self._make_file,
            "detach": self._detach,
        }
        if call.name in checks:
            checks[call.name](worker, call, began)

    def after(self, worker: Worker, call: Call, answer: Any) -> None:
        seen_states, host = self._fleet.seen_states, self._fleet.host
        if call.name == "resume" and isinstance(worker.question, Resume):
            self._not_swapped(worker, call)
        if call.name == "info" and answer is not None and not answer.suspended:
            seen_states.seen_live(answer.name)
        if call.name == "remove" and call.args[0] in host.devices.by_name:
            device = host.devices.by_name[call.args[0]]
            if device.deferred and call.args[0] in self._began[worker.pool, worker.is_second].live:
                raise Violation(f"{call}: it is to be removed at its last close")
        if call.name == "message":
            self._note_message(*call.args)

    def _not_swapped(self, worker: Worker, call: Call) -> None:
        """A resume that was to end a suspension has not brought up a table that somebody had left waiting.

        One that came while the worker hung in this very step could not be known.
        """
        name = str(call.args[0])
        known = self._known(worker.pool, name)
        device = self._fleet.host.devices.by_name.get(name)
        began = self._began[worker.pool, worker.is_second]
        if (
            known is None
            or device is None
            or device.live is None
            or name not in began.waiting
            or name not in began.showed
        ):
            return
        if device.live is not began.showed[name] and thin_of(device.live) is None:
            raise Violation(f"{call}: a table that somebody had left waiting is live now")

    def _note_message(self, pool: str, text: str) -> None:
        words, seen_states, host = text.split(), self._fleet.seen_states, self._fleet.host
        if words[0] == "delete" and pool in host.devices.by_name and int(words[1]) not in host.image(pool).thins:
            seen_states.gone((pool, int(words[1])))
        if words[0] == "reserve_metadata_snap":
            seen_states.released(pool)  # a power cut had taken what others held
        if words[0] == "create_snap" and pool in host.devices.by_name:
            new, origin = (pool, int(words[1])), (pool, int(words[2]))
            seen_states.snapped(new, origin)
            if origin[1] in host.image(pool).thins and not is_torn(host.thin(*origin).content):
                seen_states.sound.add(new)

    # Each in its moment

    def _resume(self, worker: Worker, call: Call, began: Began) -> None:
        """Nobody's freeze is ended within its grace. One that began during the step could not be known."""
        name = str(call.args[0])
        device = self._fleet.host.devices.by_name.get(name)
        since = began.frozen.get(name)
        if device is None or not device.suspended or since is None or name not in self._fleet.seen_states.frozen:
            return
        if name.endswith(".private"):
            return  # nobody else has a right to it
        del worker
        if began.time - since < GRACE - 0.01:
            raise Violation(f"{call}: suspended by somebody else, only {began.time - since:.1f} s before")

    def _create(self, worker: Worker, call: Call, began: Began) -> None:
        """What is only to be there is never published."""
        name = str(call.args[0])
        for record in began.desired.of_pool(worker.pool).devices.values():
            if record.dm_name == name and record.spec.state is not DeviceState.ACTIVE:
                raise Violation(f"{call}: it is desired {record.spec.state}")

    def _load(self, worker: Worker, call: Call, began: Began) -> None:
        """No pool comes up on a disk of somebody else's."""
        del worker, began
        table, host = read_table(call.args[1]), self._fleet.host
        if isinstance(table, PoolTable):
            for devno in {table.metadata, table.data} & {*host.blocks, *host.loops}:
                self._not_theirs(call, host.disk_of(devno))

    def _not_theirs(self, call: Call, disk: Disk) -> None:
        if disk in self._fleet.seen_states.disks:
            raise Violation(f"{call}: the disk {disk.serial} is somebody else's")

    def _remove(self, worker: Worker, call: Call, began: Began) -> None:
        name = str(call.args[0])
        known = self._known(worker.pool, name)
        if known is None or name not in began.live:
            return
        record = began.desired.of_pool(worker.pool).devices.get(known.key)
        device = self._fleet.host.devices.by_name.get(name)
        thin = None if device is None else thin_of(device.live)
        if record is None or thin is None:
            return
        wanted = record.spec.state is DeviceState.ACTIVE and thin.thin_id == known.thin_id
        if wanted and known.active and not record.spec.paused:
            raise Violation(f"{call}: it is desired Active, and live")

    def _message(self, worker: Worker, call: Call, began: Began) -> None:
        words = str(call.args[1]).split()
        match words:
            case ["release_metadata_snap"] if (
                worker.pool in self._fleet.seen_states.held - self._fleet.seen_states.in_doubt
            ):
                raise Violation(f"{call}: somebody else holds it")
            case ["delete", number]:
                self._delete(worker, int(number))
            case ["create_snap", number, origin]:
                self._intended(worker, int(number), call)
                self._not_torn(worker, int(origin), call, began)
            case ["create_thin", number]:
                self._intended(worker, int(number), call)

    def _intended(self, worker: Worker, thin_id: int, call: Call) -> None:
        intents = self._fleet.store.intents(worker.pool)
        if not any(intent.thin_id == thin_id for intent in intents):
            raise Violation(f"{call}: nothing was written down before")

    def _not_torn(self, worker: Worker, origin: int, call: Call, began: Began) -> None:
        for device in self._fleet.host.devices.by_name.values():
            thin = thin_of(device.live)
            if thin is None or thin.thin_id != origin or thin.pool.device.name != worker.pool:
                continue
            if not device.suspended and not device.internal and device.name in began.live:
                raise Violation(f"{call}: its origin is live as {device.name}, and was not suspended")

    def _delete(self, worker: Worker, thin_id: int) -> None:
        pool, seen_states = worker.pool, self._fleet.seen_states
        intents = self._fleet.store.intents(pool)
        intent = next((each for each in intents if each.thin_id == thin_id), None)
        if intent is None:
            raise Violation(f"thin id {thin_id} of {pool} is deleted: nothing was written down before")
        if (pool, thin_id) in seen_states.strangers:
            thin = self._fleet.host.image(pool).thins.get(thin_id)
            if intent.kind is IntentKind.SNAPSHOT and thin is not None and thin.created_at == intent.transaction_id:
                seen_states.gone(
                    (pool, thin_id)
                )  # made in the very transaction of a snapshot that was cut off: nobody can tell
                return
            raise Violation(f"thin id {thin_id} of {pool} is deleted: a stranger made it")
        if intent.kind is not IntentKind.DELETE and thin_id in self._known_ids(pool):
            raise Violation(f"{intent.key} is undone, though it had come to be")

    def _known_ids(self, pool: str) -> set[int]:
        return {device.thin_id for device in self._fleet.store.known_devices(pool).values()}

    def store_step(self, step: StoreStep) -> None:
        """A deletion only goes forward: that it was asked for is looked at where it begins."""
        if not isinstance(step, BeginIntent) or step.intent.kind is not IntentKind.DELETE:
            return
        desired = self._desired[step.key.pool]
        if not self._may_go(step.key, desired):
            raise Violation(f"{step.key} is deleted, and nobody asked for it")
        if desired.of_pool(step.key.pool).get(step.key) is None:
            self._pruned(step.key, desired)

    def _pruned(self, key: Key, desired: Desired) -> None:
        since = self._fleet.gone_since.get(key)
        if since is None or self._fleet.clock.now() - since < PRUNE_DELAY - 1:
            raise Violation(f"{key} is deleted, and its record was there a moment ago")
        if not desired.of_pool(key.pool).devices:
            raise Violation(f"{key} is deleted, and all records of its pool have vanished")

    def _may_go(self, key: Key, desired: Desired) -> bool:
        """Its record says so, or it has none and its pool prunes."""
        record, pool = desired.of_pool(key.pool).devices.get(key), desired.of_pool(key.pool).pool
        if record is not None:
            return record.spec.state is DeviceState.ABSENT
        return pool is not None and pool.spec.prune is Prune.DELETE

    def _mkfs(self, worker: Worker, call: Call, began: Began) -> None:
        del began
        name = str(call.args[0]).rpartition("/")[2]
        device = self._fleet.host.devices.by_name.get(name)
        thin = None if device is None else thin_of(device.live)
        if thin is not None and self._fleet.seen_states.written.get((worker.pool, thin.thin_id)):
            raise Violation(f"{call}: something was written there before")
        if not name.endswith(".private"):
            raise Violation(f"{call}: where others can open it")

    def _discard(self, worker: Worker, call: Call, began: Began) -> None:
        del began
        name = str(call.args[0]).rpartition("/")[2]
        device = self._fleet.host.devices.by_name.get(name)
        thin = None if device is None else thin_of(device.live)
        intents = self._fleet.store.intents(worker.pool)
        if thin is None:
            return
        if not any(i.thin_id == thin.thin_id and i.kind is IntentKind.DELETE for i in intents):
            raise Violation(f"{call}: thin id {thin.thin_id} is not to be deleted")
        self._fleet.seen_states.gone((worker.pool, thin.thin_id))

    def _delete_file(self, worker: Worker, call: Call, began: Began) -> None:
        self._pool_goes(worker.pool, call, began)

    def _zero(self, worker: Worker, call: Call, began: Began) -> None:
        devno = self._fleet.host.resolve(str(call.args[0]))
        if devno is not None:
            self._not_theirs(call, self._fleet.host.disk_of(devno))
        self._pool_goes(worker.pool, call, began)

    def _pool_goes(self, pool: str, call: Call, began: Began) -> None:
        """Its record says so, or its deletion has begun."""
        record, known = began.desired.of_pool(pool).pool, self._fleet.store.known_pool(pool)
        being_deleted = known is not None and not known.created
        if not being_deleted and (record is None or record.spec.state is not PoolState.ABSENT):
            raise Violation(f"{call}: pool {pool} is not to be deleted")
        self._fleet.seen_states.pool_gone(pool)

    def _make_file(self, worker: Worker, call: Call, began: Began) -> None:
        del began
        known = self._fleet.store.known_pool(worker.pool)
        if known is not None and known.created:
            raise Violation(f"{call}: an empty file in the place of one that is missing")

    def _detach(self, worker: Worker, call: Call, began: Began) -> None:
        del began
        loop = self._fleet.host.loops.get(call.args[0].devno)
        if loop is not None and not loop.path.startswith(f"/srv/{worker.pool}."):
            raise Violation(f"{call}: the loop on {loop.path} is somebody else's")

    def _known(self, pool: str, dm_name: str) -> StoredDevice | None:
        devices = self._fleet.store.known_devices(pool).values()
        return next((device for device in devices if device.dm_name == dm_name), None)

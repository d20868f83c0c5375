"""The operator: the records that are in force, and what becomes of them."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any, Final

from reconciler.model.names import Key
from reconciler.model.records import API_VERSION, Record, ThinDevice, ThinPool

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

TANK: Final = "tank"
VAULT: Final = "vault"
RUNTIME: Final = "ctr"
MIB: Final = 1 << 20
NAMES: Final = ("a", "b", "c", "d", "e")
STATES: Final = ("Active", "Active", "Active", "Inactive", "Committed", "Absent")
_TOP: Final = 64 * MIB
Spec = dict[str, Any]

POOLS: Final[dict[str, Spec]] = {
    TANK: {
        "data": {"file": "/srv/tank.data", "size": 16 * MIB},
        "metadata": {"file": "/srv/tank.meta", "size": 4 * MIB},
    },
    VAULT: {
        "data": {"device": "/dev/sda"},
        "metadata": {"device": "/dev/sdb"},
        "whenFull": "error",
        "prune": "Delete",
    },
    RUNTIME: {"external": True},
}


class Operator:
    def __init__(self, fleet: Fleet, pools: tuple[str, ...]) -> None:
        self._fleet = fleet
        self.pools = {name: copy.deepcopy(POOLS[name]) for name in pools}
        self.devices: dict[Key, Spec] = {}
        self.withdrawn: dict[Key, Spec] = {}
        self.committed: set[Key] = set()
        """Whose content is final, from the moment on in which a record says so."""
        self.edits = 0

    def apply(self) -> None:
        """What is written down is in force from now on."""
        self.edits += 1
        self._fleet.declare(*self.records())

    def records(self) -> list[Record]:
        pools = [_pool(name, spec) for name, spec in self.pools.items()]
        return [*pools, *(_device(key, spec) for key, spec in self.devices.items() if key.pool in self.pools)]

    def own_pools(self) -> list[str]:
        return [name for name, spec in self.pools.items() if "external" not in spec]

    def of(self, pool: str) -> list[Key]:
        return [key for key in self.devices if key.pool == pool]

    def pick(self, rng: random.Random) -> Key | None:
        """A device of one of the operator's own pools."""
        keys = [key for key in self.devices if key.pool in self.own_pools()]
        return rng.choice(keys) if keys else None

    # Edits

    def change(self, key: Key, rng: random.Random) -> str:
        """Another state for the device, or a device that is new. Never what contradicts what was there."""
        if key not in self.devices:
            known = key.device in self._fleet.store.known_devices(key.pool)
            before = self.withdrawn.get(key) if known else None
            self.devices[key] = before or self._new(key, rng)
        state = rng.choice(STATES)
        if key in self.committed and state != "Absent":
            state = "Committed"
        if state == "Committed":
            self.committed.add(key)
        if state == "Absent":
            self.committed.discard(key)
        self.devices[key]["state"] = state
        if state == "Absent" and rng.random() < 0.3:
            self.devices[key]["discardOnDelete"] = True
        return f"{key} {state}"

    def _new(self, key: Key, rng: random.Random) -> Spec:
        origins = [other.device for other in self.of(key.pool) if other.device < key.device]
        if origins and rng.random() < 0.6:
            return {"snapshotOf": rng.choice(origins)}
        spec: Spec = {"size": MIB}
        if rng.random() < 0.5:
            spec["filesystem"] = {"type": rng.choice(["ext4", "xfs"])}
        return spec

    def grow(self, key: Key) -> str:
        spec = self.devices[key]
        if "size" not in spec or "adopt" in spec:
            return ""
        spec["size"] += MIB
        return f"{key} {spec['size'] // MIB}MiB"

    def grow_pool(self, pool: str) -> str:
        data = self.pools[pool]["data"]
        if data.get("size", _TOP) >= _TOP:
            return ""
        data["size"] += 8 * MIB
        return f"{pool} {data['size'] // MIB}MiB"

    def grow_metadata(self, pool: str) -> str:
        """A file by its record; a disk as whoever keeps it makes it longer."""
        metadata, host = self.pools[pool]["metadata"], self._fleet.host
        if "size" in metadata:
            metadata["size"] += 4 * MIB
            return f"{pool} {metadata['size'] // MIB}MiB"
        devno = host.resolve(metadata["device"])
        assert devno is not None
        disk = host.disk_of(devno)
        disk.size += 4 * MIB
        return f"{metadata['device']} {disk.size // MIB}MiB"

    def withdraw(self, key: Key) -> Spec:
        self.withdrawn[key] = self.devices.pop(key)
        return self.withdrawn[key]

    def bring_back(self, key: Key, spec: Spec) -> None:
        """A record that had vanished; unless another has taken its place."""
        self.devices.setdefault(key, spec)

    def correct(self, key: Key) -> bool:
        """As its message says: a record that contradicts what is there is made to fit it."""
        known = self._fleet.store.known_devices(key.pool).get(key.device)
        spec = self.devices.get(key)
        if known is None or spec is None or spec["state"] == "Absent":
            return False
        before = dict(spec)
        if known.committed:
            spec["state"] = "Committed"
        spec.pop("snapshotOf", None)
        if known.origin:
            spec["snapshotOf"] = known.origin
        if "size" in spec or not known.origin:
            spec["size"] = max(int(known.size) * 512, spec.get("size", 0))
        if known.filesystem:
            spec["filesystem"] = {"type": known.filesystem}
        self.apply()
        return spec != before


def _document(kind: str, name: str, spec: Spec) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _pool(name: str, spec: Spec) -> ThinPool:
    return ThinPool.model_validate(_document("ThinPool", name, spec))


def _device(key: Key, spec: Spec) -> ThinDevice:
    return ThinDevice.model_validate(_document("ThinDevice", key.device, {"pool": key.pool, **spec}))

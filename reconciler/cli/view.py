"""What the store knows of pools and devices, gathered by name, as the commands show it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from reconciler.cli.console import clean
from reconciler.cli.errors import ExitCode, Failure
from reconciler.model.conditions import DeviceStatus, Status, item
from reconciler.model.names import Key
from reconciler.model.stored import KnownDevice, KnownPool
from reconciler.store.database import NAME
from reconciler.store.manifests import StoredRecord
from reconciler.store.store import Store


class NoStore(Failure):
    """The daemon has not run yet."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One pool or device. At least one of the three is there."""

    key: Key
    record: StoredRecord | None = None
    status: Status | None = None
    known: KnownPool | KnownDevice | None = None

    @property
    def spec(self) -> dict[str, Any] | None:
        """What the record declares, as in the manifest."""
        return None if self.record is None else json.loads(self.record.spec_json)

    @property
    def desired(self) -> str:
        """Empty where no record says anything."""
        spec = self.spec
        return "" if spec is None else str(spec.get("state", "Active"))

    @property
    def place(self) -> str:
        """Where its record stands: FILE:LINE, or what is known of that."""
        if self.record is None:
            return "nowhere: it is gone from the manifests, or was never there"
        return f"{clean(self.record.file)}:{self.record.line}" if self.record.file else "in the manifests"

    @property
    def written(self) -> tuple[str, int] | None:
        """The same for programs; None where that is not known, as in a store that 0.1.0 wrote."""
        return None if self.record is None or not self.record.file else (self.record.file, self.record.line)

    @property
    def origin(self) -> str:
        """The device that it is, or is to be, a snapshot of."""
        if isinstance(self.status, DeviceStatus) and self.status.origin:
            return self.status.origin
        if isinstance(self.known, KnownDevice) and self.known.origin:
            return self.known.origin
        return str((self.spec or {}).get("snapshotOf") or "")

    @property
    def item(self) -> dict[str, Any]:
        return item(self.key.kind, str(self.key), self.spec, self.status, self.written)


@contextmanager
def reading(state_dir: Path) -> Iterator[Store]:
    """The store, opened beside the daemon. Raises NoStore where there is none yet."""
    try:
        (state_dir / NAME).lstat()
    except FileNotFoundError:
        raise NoStore(
            f"there is no state in {state_dir}, the daemon has not run yet: start `dm-reconciler run --manifests DIR`, "
            "or say with --state-dir where it keeps its state"
        ) from None
    except OSError:
        pass  # the store says it better
    with Store.open_read_only(state_dir) as store:
        yield store


def look(store: Store) -> dict[Key, Seen]:
    """Everything, pools before their devices, in the order of their names."""
    saved = store.load_records()
    records = {} if saved is None else {record.key: record for record in saved.records}
    statuses = store.statuses()
    known: dict[Key, KnownPool | KnownDevice] = {}
    for name, pool in store.known_pools().items():
        known[Key(name)] = pool
        known |= {Key(name, device): thin for device, thin in store.known_devices(name).items()}
    keys = sorted(records.keys() | statuses.keys() | known.keys())
    return {key: Seen(key, records.get(key), statuses.get(key), known.get(key)) for key in keys}


def of_kind(seen: Mapping[Key, Seen], kind: str) -> dict[Key, Seen]:
    """Those of a kind, "pool" or "device"; all where it is empty."""
    return {key: one for key, one in seen.items() if not kind or bool(key.device) == (kind == "device")}


def find(seen: Mapping[Key, Any], kind: str, name: str) -> Key:
    """The one that is meant: a pool, or a device as POOL/NAME, or as NAME where that is unique. Raises Failure."""
    candidates = [key for key in seen if bool(key.device) == (kind == "device")]
    for key in candidates:
        if str(key) == name:
            return key
    found = [key for key in candidates if key.device == name] if kind == "device" else []
    if len(found) > 1:
        raise Failure(
            f"there are several devices {name}: write one of {', '.join(str(key) for key in found)}", ExitCode.USAGE
        )
    if not found and any(str(key) == name for key in seen):
        raise Failure(f"{name} is a {'pool' if kind == 'device' else 'device'}, not a {kind}: name it as that")
    if not found:
        raise Failure(_unknown(kind, name, [str(key) for key in candidates]))
    return found[0]


def names(state_dir: Path, kind: str) -> list[str]:
    """Of all pools or devices."""
    with reading(state_dir) as store:
        return [str(key) for key in of_kind(look(store), kind)]


def _unknown(kind: str, name: str, candidates: list[str]) -> str:
    near = get_close_matches(name, candidates, 1) or [other for other in candidates if other.endswith(f"/{name}")]
    if near:
        return f"there is no {kind} {name}: did you mean {near[0]}?"
    return f"there is no {kind} {name}: `dm-reconciler get {kind}s` lists those that there are"

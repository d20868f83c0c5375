"""A set of records, and the problems of a set whose records are each valid on their own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from math import inf
from typing import Final, NamedTuple

from reconciler.model.names import CONTROL, Key, private_dm_name
from reconciler.model.records import DeviceState, Record, ThinDevice, ThinPool, is_pattern

FieldPath = tuple[str | int, ...]
"""The place of a field in a document: ("spec", "nodes", 0)."""
_MOST_COMPARED: Final = 100
"""How many names are searched for a similar one; the search is slow, and runs once for each wrong name."""
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Position(NamedTuple):
    """A position in a file, counted from 1 as in editors."""

    line: int = 1
    column: int = 1


def show_path(path: FieldPath) -> str:
    """The path as `spec.nodes[0]`. Keys may be anything that somebody wrote, so they are shown as harmless text."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_show_key(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def _show_key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else ascii(key[:40])


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and what would be right."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{_printable(self.file)}:{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


class Written(NamedTuple):
    """The file and line of a record."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{_printable(self.file)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A record with its place."""

    record: Record
    file: str
    line: int = 1
    column: int = 1
    find: Callable[[FieldPath], Position] | None = field(default=None, compare=False, repr=False)
    """Finds the position of a field, or of the nearest existing thing around it."""

    @property
    def place(self) -> Written:
        return Written(self.file, self.line)

    def problem(self, path: FieldPath, message: str) -> Problem:
        position = self.find(path) if self.find else Position(self.line, self.column)
        return Problem(self.file, position.line, position.column, show_path(path), message)

    def __str__(self) -> str:
        return f"{'device' if self.record.key.device else 'pool'} {self.record.key} at {self.place}"


@dataclass(frozen=True, slots=True)
class RecordSet:
    """Records that were checked together. Immutable."""

    pools: Mapping[Key, ThinPool] = field(default_factory=dict)
    devices: Mapping[Key, ThinDevice] = field(default_factory=dict)
    places: Mapping[Key, Written] = field(default_factory=dict, compare=False)
    """The place of each record, as far as it is known: records that 0.1.0 stored have none."""

    @classmethod
    def of(cls, records: Iterable[Record], places: Mapping[Key, Written] | None = None) -> RecordSet:
        """The set of these records, sorted by key. Of several with one key the last counts, so `check` first."""
        ordered = sorted(records, key=lambda record: record.key)
        return cls(
            pools={record.key: record for record in ordered if isinstance(record, ThinPool)},
            devices={record.key: record for record in ordered if isinstance(record, ThinDevice)},
            places=places or {},
        )

    def __iter__(self) -> Iterator[Record]:
        """Yields pools before the devices in them."""
        return chain(self.pools.values(), self.devices.values())

    def __len__(self) -> int:
        return len(self.pools) + len(self.devices)

    def __contains__(self, key: object) -> bool:
        return key in self.pools or key in self.devices

    def for_node(self, node: str) -> RecordSet:
        """The pools for the host of that name, and their devices."""
        pools = {key: pool for key, pool in self.pools.items() if pool.fits(node)}
        names = {key.pool for key in pools}
        devices = {key: device for key, device in self.devices.items() if key.pool in names}
        return RecordSet(pools, devices, {key: place for key, place in self.places.items() if key.pool in names})

    def by_pool(self) -> dict[str, PoolRecords]:
        """The same records by pool."""
        devices: dict[str, dict[Key, ThinDevice]] = {key.pool: {} for key in self.pools}
        for key, device in self.devices.items():
            devices.setdefault(key.pool, {})[key] = device
        places: dict[str, dict[Key, Written]] = {name: {} for name in devices}
        for key, place in self.places.items():
            places.setdefault(key.pool, {})[key] = place
        return {
            name: PoolRecords(name, self.pools.get(Key(name)), found, places[name]) for name, found in devices.items()
        }


@dataclass(frozen=True, slots=True)
class Permissions:
    """What may be done to a device, by the source of its record. Manifests permit everything."""

    may_activate: bool = True
    may_remove: bool = True
    not_before: float = -inf
    """The time before which nothing may be done, in seconds of the monotonic clock."""
    why: str = ""
    """Why it is not permitted, or not yet."""


PERMITTED: Final = Permissions()


@dataclass(frozen=True, slots=True)
class PoolRecords:
    """The records of one pool from all sources. Immutable, and the same object as long as the records are the same."""

    name: str
    pool: ThinPool | None = None
    devices: Mapping[Key, ThinDevice] = field(default_factory=dict)
    places: Mapping[Key, Written] = field(default_factory=dict)
    """The place of each record, as far as it is known."""
    permissions: Mapping[Key, Permissions] = field(default_factory=dict)
    """The permissions of those devices to which not everything may be done."""
    unknown: str | None = None
    """Why the pool's devices are unknown at present; a record that is missing then does not count as gone."""

    def __iter__(self) -> Iterator[Record]:
        return chain(() if self.pool is None else (self.pool,), self.devices.values())

    def get(self, key: Key) -> Record | None:
        return self.devices.get(key) if key.device else self.pool

    def in_order(self, keys: Iterable[Key]) -> list[Key]:
        """The order in which keys are worked on: origins before their snapshots, and deletions in reverse."""
        return sorted(keys, key=self._rank)

    def _rank(self, key: Key) -> tuple[bool, int, Key]:
        record = self.devices.get(key)
        goes = record is None or record.spec.state is DeviceState.ABSENT
        depth = self._depth(key)
        return goes, -depth if goes else depth, key

    def _depth(self, key: Key) -> int:
        depth, record = 0, self.devices.get(key)
        while record is not None and record.spec.snapshot_of is not None:
            depth += 1
            record = self.devices.get(Key(key.pool, record.spec.snapshot_of))
        return depth


def check(placed: Sequence[Placed]) -> list[Problem]:
    """What is wrong with these records taken together, in their order.

    A missing origin is no problem: it may have been deleted long after its snapshot was made.
    """
    first = _first_of_each_key(placed)
    single = list(first.values())
    pools = {key.pool: item for key, item in first.items() if not key.device}
    return [
        *_duplicates(placed, first),
        *_dm_names(single),
        *_paths(list(pools.values())),
        *_pools_without_record(single, pools),
        *_adopted_ids(single),
        *_cycles(first),
    ]


def _first_of_each_key(placed: Sequence[Placed]) -> dict[Key, Placed]:
    first: dict[Key, Placed] = {}
    for item in placed:
        first.setdefault(item.record.key, item)
    return first


def _duplicates(placed: Sequence[Placed], first: Mapping[Key, Placed]) -> Iterator[Problem]:
    for item in placed:
        other = first[item.record.key]
        if other is not item:
            yield item.problem(("metadata", "name"), f"there is already a {other}: rename one, or remove it")


def _dm_names(placed: Iterable[Placed]) -> Iterator[Problem]:
    taken: dict[str, Placed] = {}
    for item in placed:
        if item.record.dm_name == CONTROL:
            text = f"/dev/mapper/{CONTROL} is device-mapper's own node: choose another name"
            yield item.problem(_naming_field(item.record), text)
        for name in _claims(item.record):
            other = taken.setdefault(name, item)
            if other is not item:
                yield item.problem(_naming_field(item.record), f"dm name {name} is taken by {other}: choose another")
                break


def _claims(record: Record) -> list[str]:
    """Every dm name that a record may give a device."""
    if isinstance(record, ThinPool):
        return [record.dm_name]
    return [record.dm_name, private_dm_name(record.spec.pool, record.metadata.name)]


def _naming_field(record: Record) -> FieldPath:
    if isinstance(record, ThinDevice) and record.spec.adopt is not None:
        return ("spec", "adopt", "dmName")
    return ("metadata", "name")


def _paths(pools: Sequence[Placed]) -> Iterator[Problem]:
    """Reports two pools on one file or device, which would destroy each other."""
    users: dict[str, list[tuple[Placed, FieldPath]]] = {}
    for item in pools:
        for path, field_path in _disks(item.record):
            users.setdefault(path, []).append((item, field_path))
    for path, both in users.items():
        for (one, _), (other, field_path) in combinations(both, 2):
            if one is not other and _surely_share_a_host(one.record, other.record):
                yield other.problem(field_path, f"{_printable(path)} is used by {one}: give each pool its own")
                break


def _disks(record: Record) -> Iterator[tuple[str, FieldPath]]:
    if isinstance(record, ThinDevice):
        return
    for name, backing in (("data", record.spec.data), ("metadata", record.spec.metadata)):
        if backing is not None:
            yield backing.path, ("spec", name, "device" if backing.device else "file")


def _surely_share_a_host(one: Record, other: Record) -> bool:
    """Whether the records alone prove that some host runs both pools.

    Patterns such as web-* and *-1 may or may not match the same host; they are accepted, because a set must not be
    rejected on a guess. On a host where they do, the disk is found in use, which is a Conflict of one record only.
    """
    if isinstance(one, ThinDevice) or isinstance(other, ThinDevice):
        return False
    if not one.spec.nodes or not other.spec.nodes or set(one.spec.nodes) & set(other.spec.nodes):
        return True
    hosts_of_one = [node for node in one.spec.nodes if not is_pattern(node)]
    hosts_of_other = [node for node in other.spec.nodes if not is_pattern(node)]
    return any(other.fits(node) for node in hosts_of_one) or any(one.fits(node) for node in hosts_of_other)


def _pools_without_record(placed: Iterable[Placed], pools: Mapping[str, Placed]) -> Iterator[Problem]:
    for item in placed:
        if isinstance(item.record, ThinPool) or item.record.spec.pool in pools:
            continue
        name = item.record.spec.pool
        near = difflib.get_close_matches(name, pools, n=1) if len(pools) <= _MOST_COMPARED else []
        hint = f"did you mean {near[0]}?" if near else "add its ThinPool record, or name another"
        yield item.problem(("spec", "pool"), f"pool {name} has no record: {hint}")


def _adopted_ids(placed: Iterable[Placed]) -> Iterator[Problem]:
    taken: dict[tuple[str, int], Placed] = {}
    for item in placed:
        if isinstance(item.record, ThinPool) or item.record.spec.adopt is None:
            continue
        thin_id = item.record.spec.adopt.device_id
        other = taken.setdefault((item.record.spec.pool, thin_id), item)
        if other is not item:
            message = f"thin id {thin_id} is already adopted by {other}: one record may have it"
            yield item.problem(("spec", "adopt", "deviceId"), message)


def _cycles(first: Mapping[Key, Placed]) -> Iterator[Problem]:
    """Yields each cycle once, with the record of it that comes first in the files."""
    done: set[Key] = set()
    for start in first:
        trail: dict[Key, None] = {}
        key: Key | None = start
        while key is not None and key not in done and key not in trail:
            trail[key] = None
            key = _origin(key, first)
        done.update(trail)  # `|=` would copy the whole set
        if key is not None and key in trail:
            yield _cycle_problem(list(trail)[list(trail).index(key) :], first)


def _origin(key: Key, first: Mapping[Key, Placed]) -> Key | None:
    """The record that this one is a snapshot of, if both exist."""
    record = first[key].record
    if isinstance(record, ThinPool) or record.spec.snapshot_of is None:
        return None
    origin = Key(key.pool, record.spec.snapshot_of)
    return origin if origin in first else None


def _cycle_problem(cycle: list[Key], first: Mapping[Key, Placed]) -> Problem:
    path: FieldPath = ("spec", "snapshotOf")
    if len(cycle) == 1:
        return first[cycle[0]].problem(path, "a device cannot be a snapshot of itself: name another, or leave it out")
    rank = {key: number for number, key in enumerate(first)}
    start = min(range(len(cycle)), key=lambda index: rank[cycle[index]])
    turned = [*cycle[start:], *cycle[: start + 1]]
    shown = " -> ".join(key.device for key in turned[:8]) + (" -> ..." if len(turned) > 8 else "")
    message = f"snapshots in a cycle, {shown}: one of them must be made without snapshotOf"
    return first[turned[0]].problem(path, message)

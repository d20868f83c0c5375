"""The records in force on this host, in the order in which they are carried out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from reconciler.model.names import Key
from reconciler.model.records import DeviceState, ThinDevice, ThinPool
from reconciler.model.recordset import RecordSet


@dataclass(frozen=True)
class Desired:
    """Immutable: a new set of records is a new Desired."""

    records: RecordSet = field(default_factory=RecordSet)
    loaded_at: float = -inf
    """When the directory's content last changed, by the monotonic clock, so that a host whose time of day is put right
    does not pass for one that has waited: pruning waits for it to settle. Long ago, where nothing is said.
    """

    def pool(self, name: str) -> ThinPool | None:
        record = self.records.get(Key(name))
        return record if isinstance(record, ThinPool) else None

    def device(self, key: Key) -> ThinDevice | None:
        record = self.records.get(key)
        return record if isinstance(record, ThinDevice) else None

    def devices_of(self, pool: str) -> tuple[ThinDevice, ...]:
        return self.records.devices_of(pool)

    def in_order(self, keys: Iterable[Key]) -> list[Key]:
        """Origins before their snapshots; then what is to go, the other way round."""
        return sorted(keys, key=self._rank)

    def _rank(self, key: Key) -> tuple[bool, int, Key]:
        record = self.device(key)
        goes = record is None or record.spec.state is DeviceState.ABSENT
        depth = self._depth(key)
        return goes, -depth if goes else depth, key

    def _depth(self, key: Key) -> int:
        depth, record = 0, self.device(key)
        while record is not None and record.spec.snapshot_of is not None:
            depth += 1
            record = self.device(Key(key.pool, record.spec.snapshot_of))
        return depth

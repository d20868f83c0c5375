"""The records in force on this host, a pool each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf

from reconciler.model.records import Record
from reconciler.model.recordset import PoolRecords, RecordSet


@dataclass(frozen=True)
class Desired:
    """Immutable: when anything changes there is a new Desired, in which unchanged pools have the same records, the same object."""

    pools: Mapping[str, PoolRecords] = field(default_factory=dict)
    loaded_at: float = -inf
    """When the directory's content last changed, in seconds of the monotonic clock, so that a host whose time of day is
    put right does not pass for one that has waited: pruning waits for it to settle. Long ago, where nothing is said.
    """
    _absent: dict[str, PoolRecords] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, records: RecordSet, loaded_at: float = -inf) -> Desired:
        return cls(records.by_pool(), loaded_at)

    def __iter__(self) -> Iterator[Record]:
        return chain.from_iterable(self.pools.values())

    def of_pool(self, name: str) -> PoolRecords:
        """The same object each time, also for a pool that no record names."""
        found = self.pools.get(name)
        return self._absent.setdefault(name, PoolRecords(name)) if found is None else found

    def after(self, before: Desired) -> Desired:
        """The same, with the objects of `before` for pools of which nothing else is said now."""
        unchanged = {name: old for name, old in before.pools.items() if old == self.pools.get(name)}
        return replace(self, pools={**self.pools, **unchanged})

    def renewed(self) -> Desired:
        """The same in other objects: passes over the former ones do not count any more."""
        return replace(self, pools={name: replace(records) for name, records in self.pools.items()})

"""The records in force on this host, by pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf

from reconciler.model.records import Record
from reconciler.model.recordset import PoolRecords, RecordSet


@dataclass(frozen=True)
class Desired:
    """The records in force. Immutable: each change makes a new `Desired`, which has the same objects for pools that did
    not change.
    """

    pools: Mapping[str, PoolRecords] = field(default_factory=dict)
    loaded_at: float = -inf
    """When the content of the directory last changed, in monotonic seconds; the far past by default. Pruning waits
    until the directory has settled, and a monotonic time keeps a corrected wall clock from looking like that wait.
    """
    _absent: dict[str, PoolRecords] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, records: RecordSet, loaded_at: float = -inf) -> Desired:
        return cls(records.by_pool(), loaded_at)

    def __iter__(self) -> Iterator[Record]:
        return chain.from_iterable(self.pools.values())

    def of_pool(self, name: str) -> PoolRecords:
        """The pool's records, the same object each time, also for a pool that no record names."""
        found = self.pools.get(name)
        return self._absent.setdefault(name, PoolRecords(name)) if found is None else found

    def after(self, before: Desired) -> Desired:
        """This `Desired`, with the objects of `before` for all pools whose records are equal."""
        unchanged = {name: old for name, old in before.pools.items() if old == self.pools.get(name)}
        return replace(self, pools={**self.pools, **unchanged})

    def renewed(self) -> Desired:
        """A copy with new objects for the same records, so that earlier passes do not count any more."""
        return replace(self, pools={name: replace(records) for name, records in self.pools.items()})

"""Puts in force what the sources declare, by pool; while the manifests are broken, their last good set."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from reconciler.controller.clock import Clock
from reconciler.controller.desired import Desired
from reconciler.model.records import Record, ThinDevice, ThinPool
from reconciler.model.recordset import PoolRecords, Problem, RecordSet, Written
from reconciler.sources.base import RecordSource
from reconciler.store.errors import StoreError
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord
from reconciler.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
_KINDS: dict[str, type[ThinPool | ThinDevice]] = {"ThinPool": ThinPool, "ThinDevice": ThinDevice}


class ManifestsInvalid(Exception):  # noqa: N818  # says what is
    """The manifests are broken, so nothing can be put in force."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class RecordLoader:
    def __init__(
        self, sources: Sequence[RecordSource], node: str, store: Store, metrics: Metrics, clock: Clock
    ) -> None:
        """The first of the `sources` are the manifests: they declare the pools, and are saved as the last good set."""
        self._manifests, *self._others = sources
        self._node = node
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._revision = ""
        self._declared: Mapping[str, PoolRecords] | None = None
        """This host's pools as the manifests in force declare them."""
        self._loaded_at, self._loaded_wall = -inf, 0.0
        self._in_force = Desired()
        self._told: tuple[Problem, ...] = ()
        self.problems: tuple[Problem, ...] = ()
        """What is wrong with the sources as they are now. What is in force is then an older state."""

    def load(self) -> Desired | None:
        """The records to put in force, if they differ from those of the last load.

        Raises StoreUnusable if the manifests cannot be saved. They are then not in force yet, and the caller tries
        again.
        """
        reading = self._manifests.read({})
        self._metrics.manifest_errors(len(reading.problems))
        if reading.pools is None:
            self._revision = ""
        elif reading.revision != self._revision:
            keep(self._store, reading.pools.values(), reading.revision)
            self._revision = reading.revision
            self._declare(reading.pools)
        self._tell(reading.problems)
        return self._compose(reading.problems)

    def last_good(self) -> Desired | None:
        """The last good manifests from the store, with what the other sources declare now."""
        stored = self._store.load_records()
        if stored is None:
            return None
        try:
            places = {each.key: Written(each.file, each.line) for each in stored.records if each.file}
            records = RecordSet.of((_record(each) for each in stored.records), places)
        except ValueError as error:  # another version of the program wrote them, under other rules
            first = " ".join(str(error).split())[:200]
            raise StoreError(
                f"the manifests that were last in force cannot be read from the store ({first}): give manifests that are "
                "valid, `dm-reconciler validate DIR` tells"
            ) from error
        self._declare(records.by_pool())
        return self._compose(self.problems)

    def _declare(self, pools: Mapping[str, PoolRecords]) -> None:
        self._declared = {
            name: records
            for name, records in pools.items()
            if records.pool is not None and records.pool.fits(self._node)
        }
        self._loaded_at, self._loaded_wall = self._clock.now(), self._clock.wall()

    def _compose(self, problems: tuple[Problem, ...]) -> Desired | None:
        """Composes what all sources declare, reusing the objects of pools that did not change."""
        self.problems = problems
        if self._declared is None:
            return None
        pools = dict(self._declared)
        for source in self._others:
            reading = source.read(pools)
            self.problems += reading.problems
            pools.update({name: self._as_far_as_known(told) for name, told in (reading.pools or {}).items()})
        desired = Desired(pools, self._loaded_at).after(self._in_force)
        if desired == self._in_force:
            return None
        self._in_force = desired
        devices = sum(len(records.devices) for records in pools.values())
        self._metrics.in_force({"ThinPool": len(pools), "ThinDevice": devices}, self._loaded_wall)
        return desired

    def _as_far_as_known(self, records: PoolRecords) -> PoolRecords:
        """The records, in which devices that cannot be read at the moment stay as they were last read."""
        former = self._in_force.pools.get(records.name)
        return records if not records.unknown or former is None else replace(former, unknown=records.unknown)

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        if problems == self._told:
            return
        self._told = problems
        for problem in problems:
            _log.error("%s", problem)
        if problems:
            _log.error("the manifests are invalid: the last good set stays in force")


def keep(store: Store, pools: Iterable[PoolRecords], digest: str) -> None:
    """Saves these records as the last good set of manifests."""
    stored = [_stored(record, records.places.get(record.key)) for records in pools for record in records]
    store.save_records(stored, digest)


def spec_of(record: Record) -> dict[str, Any]:
    """The spec of a record as its manifest would have it, including the defaults."""
    spec: dict[str, Any] = record.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return spec


def _stored(record: Record, place: Written | None) -> LastGoodRecord:
    # The path is absolute, because readers of the store have another working directory.
    file, line = ("", 0) if place is None else (str(Path(place.file).absolute()), place.line)
    return LastGoodRecord(record.key, record.kind, json.dumps(spec_of(record)), file, line)


def _record(stored: LastGoodRecord) -> Record:
    name = stored.key.device or stored.key.pool
    document = {
        "apiVersion": "dm-reconciler/v1",
        "kind": stored.kind,
        "metadata": {"name": name},
        "spec": json.loads(stored.spec_json),
    }
    return _KINDS[stored.kind].model_validate(document, by_alias=True, by_name=False)

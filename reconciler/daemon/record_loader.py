"""Manifests in: the set in force, from the directory or, while that is broken, the last good one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from reconciler.controller.clock import Clock
from reconciler.controller.desired import Desired
from reconciler.model.records import Record, ThinDevice, ThinPool
from reconciler.model.recordset import Problem, RecordSet, Written
from reconciler.sources.manifests.read import load
from reconciler.store.errors import StoreError
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord
from reconciler.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
_KINDS: dict[str, type[ThinPool | ThinDevice]] = {"ThinPool": ThinPool, "ThinDevice": ThinDevice}


class ManifestsInvalid(Exception):  # noqa: N818  # says what is
    """Nothing can be put in force."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class RecordLoader:
    def __init__(self, directory: Path, node: str, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._directory = directory
        self._node = node
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._digest = ""
        self._told: tuple[Problem, ...] = ()
        self.problems: tuple[Problem, ...] = ()
        """What is wrong with the directory as it is now. The set in force is then an older one."""

    def load(self) -> Desired | None:
        """The directory's records, if they are good and are others than those of the last load.

        Raises StoreUnusable where they cannot be noted: then they are not in force yet, and this is called again.
        """
        loaded = load(self._directory)
        self.problems = loaded.problems
        self._metrics.manifest_errors(len(loaded.problems))
        if loaded.records is None:
            self._tell(loaded.problems)
            self._digest = ""
            return None
        self._told = ()
        if loaded.digest == self._digest:
            return None
        self.keep(loaded.records, loaded.digest)
        self._digest = loaded.digest
        return self._desired(loaded.records)

    def keep(self, records: RecordSet, digest: str) -> None:
        """Note the set as the last good one."""
        self._store.save_records([_stored(record, records.places.get(record.key)) for record in records], digest)

    def last_good(self) -> Desired | None:
        """The set that was last in force, from the store."""
        stored = self._store.load_records()
        if stored is None:
            return None
        try:
            places = {each.key: Written(each.file, each.line) for each in stored.records if each.file}
            records = RecordSet.of((_record(each) for each in stored.records), places)
        except ValueError as error:  # another version of the program wrote them, and had other rules
            first = " ".join(str(error).split())[:200]
            raise StoreError(
                f"the manifests that were last in force cannot be read from the store ({first}): give manifests that are "
                "valid, `dm-reconciler validate DIR` tells"
            ) from error
        return self._desired(records)

    def _desired(self, records: RecordSet) -> Desired:
        mine = records.for_node(self._node)
        counts = {"ThinPool": len(mine.pools), "ThinDevice": len(mine.devices)}
        self._metrics.in_force(counts, self._clock.wall())
        return Desired(mine, loaded_at=self._clock.now())

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        if problems == self._told:
            return
        self._told = problems
        for problem in problems:
            _log.error("%s", problem)
        _log.error("the manifests in %s are invalid: the last good set stays in force", self._directory)


def spec_of(record: Record) -> dict[str, Any]:
    """A record's spec as its manifest would write it, defaults included."""
    spec: dict[str, Any] = record.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return spec


def _stored(record: Record, place: Written | None) -> LastGoodRecord:
    # Whoever asks the store stands elsewhere.
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

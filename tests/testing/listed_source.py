"""A source of records besides the manifests: a list of devices in a file beside a pool's data, as another program would write it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.controller.clock import Clock
from reconciler.model.names import Key
from reconciler.model.records import API_VERSION, ThinDevice
from reconciler.model.recordset import Permissions, PoolRecords, Problem
from reconciler.sources.base import SourceReading


class ListedSource:
    """For each pool whose data lies in a file F: F.devices, {name: {"size": ..., "state": ..., "waits": true, "keep": true}}."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._started = False
        self._seen: dict[Path, str] = {}

    def start(self) -> None:
        self._started = True

    def stop(self) -> None:
        self._started = False

    def poll(self) -> None:
        if self._started and any(_text(path) != text for path, text in self._seen.items()):
            self._changed()

    def read(self, pools: Mapping[str, PoolRecords]) -> SourceReading:
        told: dict[str, PoolRecords] = {}
        problems: list[Problem] = []
        for name, records in pools.items():
            path = _list_of(records)
            if path is None:
                continue
            text = self._seen[path] = _text(path)
            try:
                told[name] = self._listed(records, json.loads(text or "{}"))
            except ValueError as error:
                problems.append(Problem(str(path), 1, 1, "", str(error)))
                told[name] = replace(records, unknown=f"{path} cannot be read")
        return SourceReading(told, tuple(problems))

    def _listed(self, records: PoolRecords, listed: Mapping[str, Mapping[str, object]]) -> PoolRecords:
        devices: dict[Key, ThinDevice] = dict(records.devices)
        permissions: dict[Key, Permissions] = {}
        for name, row in listed.items():
            key = Key(records.name, name)
            devices[key] = ThinDevice.model_validate(
                {
                    "apiVersion": API_VERSION,
                    "kind": "ThinDevice",
                    "metadata": {"name": name},
                    "spec": {"pool": records.name, "size": row["size"], "state": row.get("state", "Active")},
                }
            )
            permissions[key] = Permissions(
                may_activate="waits" not in row, may_remove="keep" not in row, why="its list says so"
            )
        return replace(records, devices=devices, permissions=permissions)


def _list_of(records: PoolRecords) -> Path | None:
    data = None if records.pool is None else records.pool.spec.data
    return None if data is None or data.file is None else Path(f"{data.file}.devices")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""

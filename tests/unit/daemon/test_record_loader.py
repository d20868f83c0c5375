"""Manifests in: a good set is put in force and kept; a broken one changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from reconciler.controller.clock import SystemClock
from reconciler.daemon.record_loader import RecordLoader
from reconciler.model.names import Key
from reconciler.sources.manifests.watch import ManifestSource
from reconciler.store.store import Store
from reconciler.telemetry.metrics import Metrics

GOOD = """
apiVersion: dm-reconciler/v1
kind: ThinPool
metadata: {name: tank}
spec:
  data: {file: /srv/tank.data, size: 1GiB}
  metadata: {file: /srv/tank.meta, size: 4MiB}
  extend: {threshold: 80%, step: 20%, max: 2GiB}
  nodes: [web-*]
---
apiVersion: dm-reconciler/v1
kind: ThinDevice
metadata: {name: app}
spec: {pool: tank, size: 10MiB, filesystem: {type: ext4}}
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state", wall_clock=time.time) as store:
        yield store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir(mode=0o755)
    return folder


def a_loader(directory: Path, store: Store, node: str = "web-1") -> tuple[RecordLoader, CollectorRegistry]:
    registry = CollectorRegistry()
    return RecordLoader([ManifestSource(directory)], node, store, Metrics(registry), SystemClock()), registry


def write(directory: Path, text: str) -> None:
    file = directory / "all.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)


def test_a_good_set_is_put_in_force_once(directory: Path, store: Store) -> None:
    write(directory, GOOD)
    loader, registry = a_loader(directory, store)
    desired = loader.load()
    assert desired is not None
    assert Key("tank", "app") in desired.pools["tank"].devices
    assert loader.load() is None, "nothing was edited"
    assert registry.get_sample_value("dm_reconciler_records", {"kind": "ThinDevice"}) == 1


def test_a_broken_set_puts_nothing_in_force_and_is_counted(directory: Path, store: Store) -> None:
    write(directory, "kind: [")
    loader, registry = a_loader(directory, store)
    assert loader.load() is None
    assert registry.get_sample_value("dm_reconciler_manifest_errors") == len(loader.problems) > 0


def test_while_a_set_is_broken_the_records_of_the_last_good_one_are_counted(directory: Path, store: Store) -> None:
    write(directory, GOOD)
    loader, registry = a_loader(directory, store)
    loader.load()
    loaded = registry.get_sample_value("dm_reconciler_manifest_last_load_timestamp_seconds")
    write(directory, "kind: [")
    assert loader.load() is None
    assert registry.get_sample_value("dm_reconciler_records", {"kind": "ThinDevice"}) == 1
    assert registry.get_sample_value("dm_reconciler_manifest_last_load_timestamp_seconds") == loaded
    write(directory, GOOD)
    loader.load()
    assert registry.get_sample_value("dm_reconciler_manifest_errors") == 0


def test_the_last_good_set_comes_back_from_the_store_as_it_was(directory: Path, store: Store) -> None:
    write(directory, GOOD)
    first = a_loader(directory, store)[0].load()
    write(directory, "kind: [")
    again, _ = a_loader(directory, store)
    assert again.load() is None
    last = again.last_good()
    assert first is not None
    assert last is not None
    assert list(last) == list(first)


def test_where_each_record_is_written_outlives_the_manifests(directory: Path, store: Store) -> None:
    write(directory, GOOD)
    first = a_loader(directory, store)[0].load()
    write(directory, "kind: [")
    last = a_loader(directory, store)[0].last_good()
    assert first is not None
    assert last is not None
    file = str(directory / "all.yaml")
    assert last.of_pool("tank").places == first.of_pool("tank").places
    assert last.of_pool("tank").places == {Key("tank"): (file, 2), Key("tank", "app"): (file, 11)}


def test_whoever_asks_the_store_need_not_stand_where_the_manifests_were_named(
    directory: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, GOOD)
    monkeypatch.chdir(directory.parent)
    a_loader(Path(directory.name), store)[0].load()
    saved = store.load_records()
    assert saved is not None
    assert {record.file for record in saved.records} == {str(directory / "all.yaml")}


def test_a_set_that_was_noted_without_its_places_has_none(directory: Path, store: Store) -> None:
    write(directory, GOOD)
    loader, _ = a_loader(directory, store)
    loaded = loader.load()
    assert loaded is not None
    saved = store.load_records()
    assert saved is not None
    store.save_records([replace(record, file="", line=0) for record in saved.records], saved.digest)
    last = loader.last_good()
    assert last is not None
    assert list(last) == list(loaded)
    assert last.of_pool("tank").places == {}


def test_a_mended_set_is_put_in_force_though_it_is_the_same_as_before(directory: Path, store: Store) -> None:
    write(directory, GOOD)
    loader, _ = a_loader(directory, store)
    loader.load()
    write(directory, "kind: [")
    loader.load()
    write(directory, GOOD)
    assert loader.load() is not None


def test_records_of_other_nodes_are_not_in_force_here(directory: Path, store: Store) -> None:
    write(directory, GOOD)
    desired = a_loader(directory, store, node="db-1")[0].load()
    assert desired is not None
    assert not list(desired)


def test_without_any_good_set_there_is_no_last_one(directory: Path, store: Store) -> None:
    assert a_loader(directory, store)[0].last_good() is None

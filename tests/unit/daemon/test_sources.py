"""Records come from the manifests, and from what the record of a pool names: both are put in force together."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from reconciler.controller.clock import SystemClock
from reconciler.daemon.record_loader import RecordLoader
from reconciler.model.names import Key
from reconciler.sources.base import RecordSource
from reconciler.sources.manifests.watch import ManifestSource
from reconciler.store.store import Store
from reconciler.telemetry.metrics import Metrics
from tests.testing.listed_source import ListedSource

LISTED = Key("tank", "listed")


class Place:
    """Manifests with one pool of one device, and the file that lists more of them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.manifests = folder / "manifests"
        self.manifests.mkdir(mode=0o755)
        self._data = folder / "tank.data"
        self.store = store
        self.calls = 0
        self.listed = ListedSource(SystemClock(), self._call)
        sources: list[RecordSource] = [ManifestSource(self.manifests), self.listed]
        self.loader = RecordLoader(sources, "host", store, Metrics(CollectorRegistry()), SystemClock())
        self.declare()

    def _call(self) -> None:
        self.calls += 1

    def declare(self, text: str | None = None) -> None:
        file = self.manifests / "all.yaml"
        file.write_text(text if text is not None else self.declared(), encoding="utf-8")
        file.chmod(0o644)

    def list(self, text: str) -> None:
        Path(f"{self._data}.devices").write_text(text, encoding="utf-8")

    def declared(self) -> str:
        return f"""
apiVersion: dm-reconciler/v1
kind: ThinPool
metadata: {{name: tank}}
spec:
  data: {{file: {self._data}, size: 1GiB}}
  metadata: {{file: {self._data}.meta, size: 4MiB}}
---
apiVersion: dm-reconciler/v1
kind: ThinDevice
metadata: {{name: app}}
spec: {{pool: tank, size: 10MiB}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store.open(tmp_path / "state", wall_clock=time.time) as store:
        yield Place(tmp_path, store)


def test_what_a_second_source_tells_is_in_force_beside_the_manifests(place: Place) -> None:
    place.list(json.dumps({"listed": {"size": "10MiB", "keep": True}}))
    desired = place.loader.load()
    assert desired is not None
    records = desired.of_pool("tank")
    assert set(records.devices) == {Key("tank", "app"), LISTED}
    assert not records.permissions[LISTED].may_remove
    assert LISTED in desired.pools[LISTED.pool].devices


def test_only_the_manifests_are_kept_as_the_last_good_set(place: Place) -> None:
    place.list(json.dumps({"listed": {"size": "10MiB"}}))
    place.loader.load()
    stored = place.store.load_records()
    assert stored is not None
    assert {each.key for each in stored.records} == {Key("tank"), Key("tank", "app")}


def test_while_the_manifests_are_broken_the_second_source_is_still_followed(place: Place) -> None:
    place.loader.load()
    place.declare("kind: [")
    place.list(json.dumps({"listed": {"size": "10MiB"}}))
    desired = place.loader.load()
    assert desired is not None
    assert set(desired.of_pool("tank").devices) == {Key("tank", "app"), LISTED}
    assert place.loader.problems, "and the manifests are still told to be broken"


def test_nothing_is_put_in_force_anew_while_no_source_tells_anything_else(place: Place) -> None:
    place.list(json.dumps({"listed": {"size": "10MiB"}}))
    place.loader.load()
    assert place.loader.load() is None


def test_pools_of_which_nothing_else_is_told_keep_the_same_object(place: Place) -> None:
    good = place.declared()
    place.declare(f"{good}---{good.replace('tank', 'vault')}")
    before = place.loader.load()
    place.list(json.dumps({"listed": {"size": "10MiB"}}))
    after = place.loader.load()
    assert before is not None
    assert after is not None
    assert after.of_pool("vault") is before.of_pool("vault")
    assert after.of_pool("tank") is not before.of_pool("tank")


def test_what_a_source_cannot_tell_stays_as_it_was_and_is_marked(place: Place) -> None:
    place.list(json.dumps({"listed": {"size": "10MiB"}}))
    place.loader.load()
    place.list("{")
    desired = place.loader.load()
    assert desired is not None
    records = desired.of_pool("tank")
    assert LISTED in records.devices
    assert records.unknown
    assert len(place.loader.problems) == 1
    place.list(json.dumps({}))
    desired = place.loader.load()
    assert desired is not None
    assert LISTED not in desired.of_pool("tank").devices
    assert not desired.of_pool("tank").unknown
    assert not place.loader.problems


def test_a_source_calls_when_there_is_something_new_and_only_while_it_runs(place: Place) -> None:
    place.loader.load()
    place.list(json.dumps({"listed": {"size": "10MiB"}}))
    place.listed.poll()
    assert place.calls == 0, "it was not started"
    place.listed.start()
    place.listed.poll()
    assert place.calls == 1
    place.loader.load()
    place.listed.poll()
    assert place.calls == 1, "it was read"

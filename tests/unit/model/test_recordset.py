"""Records taken together: what no single one of them shows."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.names import Key, private_dm_name
from reconciler.model.records import API_VERSION, Record, ThinDevice, ThinPool
from reconciler.model.recordset import Placed, Position, Problem, RecordSet, check, show_path


def pool(name: str = "tank", *, nodes: list[str] | None = None, data: str = "", **spec: Any) -> ThinPool:
    disks = {
        "data": {"file": data or f"/srv/{name}.data", "size": "1GiB"},
        "metadata": {"file": f"/srv/{name}.meta", "size": "32MiB"},
    }
    body = {**disks, "nodes": nodes or [], **spec}
    return ThinPool.model_validate(
        {"apiVersion": API_VERSION, "kind": "ThinPool", "metadata": {"name": name}, "spec": body}
    )


def device(name: str, pool: str = "tank", **spec: Any) -> ThinDevice:
    body = {"pool": pool, "size": "1GiB", **spec}
    if "adopt" in spec:
        del body["size"]
    return ThinDevice.model_validate(
        {"apiVersion": API_VERSION, "kind": "ThinDevice", "metadata": {"name": name}, "spec": body}
    )


def found(*records: Record) -> list[str]:
    """What is wrong with these, each on a line of its own."""
    return [str(problem) for problem in check([Placed(each, "f", line) for line, each in enumerate(records, 1)])]


def test_a_sound_set_has_no_problems() -> None:
    assert found(pool(), device("base"), device("app", snapshotOf="base"), pool("vault")) == []


def test_the_order_of_records_does_not_matter() -> None:
    assert found(device("app", snapshotOf="base"), device("base"), pool()) == []


def test_a_missing_origin_is_no_problem() -> None:
    assert found(pool(), device("app", snapshotOf="retired")) == []


def test_two_devices_with_one_key() -> None:
    assert found(pool(), device("app"), device("app", size="2GiB")) == [
        "f:3:1: metadata.name: there is already a device tank/app at f:2: rename one, or remove it"
    ]


def test_two_pools_with_one_name() -> None:
    assert found(pool(), pool()) == [
        "f:2:1: metadata.name: there is already a pool tank at f:1: rename one, or remove it"
    ]


def test_the_same_device_name_in_two_pools_is_fine() -> None:
    assert found(pool(), pool("vault"), device("app"), device("app", "vault")) == []


def test_two_devices_with_one_dm_name() -> None:
    assert found(pool("a"), pool("a-b"), device("b-c", "a"), device("c", "a-b")) == [
        "f:4:1: metadata.name: dm name a-b-c is taken by device a/b-c at f:3: choose another"
    ]


def test_nothing_is_named_as_the_node_of_device_mapper_itself() -> None:
    said = "/dev/mapper/control is device-mapper's own node: choose another name"
    assert found(pool("control")) == [f"f:1:1: metadata.name: {said}"]
    adopted = device("old", adopt={"deviceId": 1, "dmName": "control"})
    assert found(pool(), adopted, device("control")) == [f"f:2:1: spec.adopt.dmName: {said}"]


def test_a_pool_named_as_a_device() -> None:
    assert found(pool(), pool("tank-app"), device("app")) == [
        "f:3:1: metadata.name: dm name tank-app is taken by pool tank-app at f:2: choose another"
    ]


def test_a_device_named_as_the_private_name_of_another() -> None:
    assert found(pool(), device("app"), device("app.private")) == [
        "f:3:1: metadata.name: dm name tank-app.private is taken by device tank/app at f:2: choose another"
    ]


def test_a_pool_named_as_a_shortened_private_name() -> None:
    adopted = private_dm_name("tank", "x" * 63)
    assert found(pool(), device("x" * 63), device("y", adopt={"deviceId": 1, "dmName": adopted})) == [
        f"f:3:1: spec.adopt.dmName: dm name {adopted} is taken by device tank/{'x' * 63} at f:2: choose another"
    ]


def test_an_adopted_name_that_a_record_has() -> None:
    assert found(pool(), device("app"), device("old", adopt={"deviceId": 1, "dmName": "tank-app"})) == [
        "f:3:1: spec.adopt.dmName: dm name tank-app is taken by device tank/app at f:2: choose another"
    ]


def test_one_thin_id_adopted_twice() -> None:
    one = device("one", adopt={"deviceId": 7, "dmName": "a"})
    other = device("other", adopt={"deviceId": 7, "dmName": "b"})
    assert found(pool(), one, other) == [
        "f:3:1: spec.adopt.deviceId: thin id 7 is already adopted by device tank/one at f:2: one record may have it"
    ]


def test_one_thin_id_in_two_pools_is_fine() -> None:
    one = device("one", adopt={"deviceId": 7, "dmName": "a"})
    other = device("other", "vault", adopt={"deviceId": 7, "dmName": "b"})
    assert found(pool(), pool("vault"), one, other) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tnak", "did you mean tank?"), ("elsewhere", "add its ThinPool record, or name another")],
)
def test_a_pool_without_a_record(name: str, hint: str) -> None:
    assert found(pool(), device("app", name)) == [f"f:2:1: spec.pool: pool {name} has no record: {hint}"]


def test_a_snapshot_of_itself() -> None:
    assert found(pool(), device("a", snapshotOf="a")) == [
        "f:2:1: spec.snapshotOf: a device cannot be a snapshot of itself: name another, or leave it out"
    ]


def test_a_cycle_of_snapshots_is_told_once_where_it_stands_first() -> None:
    leading_in = device("z", snapshotOf="c")
    cycle = [device("b", snapshotOf="c"), device("a", snapshotOf="b"), device("c", snapshotOf="a")]
    assert found(pool(), leading_in, *cycle) == [
        "f:3:1: spec.snapshotOf: snapshots in a cycle, b -> c -> a -> b: one of them must be made without snapshotOf"
    ]


def test_a_large_cycle_is_found_soon_and_told_shortly() -> None:
    count = 5000
    cycle = [device(f"d{number}", snapshotOf=f"d{(number + 1) % count}") for number in range(count)]
    [line] = found(pool(), *cycle)
    assert line.startswith("f:2:1: spec.snapshotOf: snapshots in a cycle, d0 -> d1 -> ")
    assert len(line) < 200


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([], []),
        ([], ["web-1"]),
        (["web-1"], ["web-1"]),
        (["web-*"], ["web-*"]),
        (["web-*"], ["web-1"]),
        (["web-1"], ["web-*"]),
    ],
)
def test_two_pools_on_one_path_on_one_host(one: list[str], other: list[str]) -> None:
    assert found(pool(nodes=one), pool("vault", data="/srv/tank.data", nodes=other)) == [
        "f:2:1: spec.data.file: /srv/tank.data is used by pool tank at f:1: give each pool its own"
    ]


def test_the_data_of_one_pool_as_metadata_of_another() -> None:
    assert found(pool(), pool("vault", data="/srv/tank.meta")) == [
        "f:2:1: spec.data.file: /srv/tank.meta is used by pool tank at f:1: give each pool its own"
    ]


@pytest.mark.parametrize(("one", "other"), [(["web-1"], ["web-2"]), (["web-*"], ["db-*"]), (["web-*"], ["*-1"])])
def test_two_pools_on_one_path_on_hosts_that_may_differ(one: list[str], other: list[str]) -> None:
    assert found(pool(nodes=one), pool("vault", data="/srv/tank.data", nodes=other)) == []


def test_a_set_gives_pools_first_and_each_in_the_order_of_keys() -> None:
    records = RecordSet.of([device("b"), device("a"), pool("vault"), pool()])
    assert [str(each.key) for each in records] == ["tank", "vault", "tank/a", "tank/b"]
    assert len(records) == 4


def test_a_set_finds_records_by_key() -> None:
    records = RecordSet.of([pool(), device("a")])
    assert records.pools[Key("tank")] == pool()
    assert records.devices[Key("tank", "a")] == device("a")
    assert Key("tank") in records
    assert Key("tank", "b") not in records


def test_a_set_gives_the_records_of_each_pool() -> None:
    records = RecordSet.of([pool(), pool("vault"), device("a"), device("b"), device("a", "vault")])
    pools = records.by_pool()
    assert pools.keys() == {"tank", "vault"}
    assert [each.key for each in pools["tank"]] == [Key("tank"), Key("tank", "a"), Key("tank", "b")]
    assert pools["vault"].get(Key("vault", "a")) == device("a", "vault")
    assert pools["vault"].get(Key("vault", "b")) is None


def test_a_set_for_a_node_has_its_pools_and_their_devices() -> None:
    web: list[Record] = [pool(nodes=["web-*"]), device("a")]
    everywhere: list[Record] = [pool("vault"), device("a", "vault")]
    records = RecordSet.of([*web, *everywhere])
    assert records.for_node("web-1") == records
    assert records.for_node("db-1") == RecordSet.of(everywhere)


def test_sets_are_equal_when_their_records_are() -> None:
    assert RecordSet.of([pool(), device("a")]) == RecordSet.of([device("a"), pool()])
    assert RecordSet.of([pool(), device("a")]) != RecordSet.of([pool(), device("a", size="2GiB")])


def test_a_problem_stands_where_the_field_is() -> None:
    placed = Placed(device("a", snapshotOf="a"), "f", 1, 1, lambda path: Position(len(path), 7))
    assert [str(each) for each in check([Placed(pool(), "f"), placed])] == [
        "f:2:7: spec.snapshotOf: a device cannot be a snapshot of itself: name another, or leave it out"
    ]


def test_a_problem_is_one_line_whatever_the_file_is_called() -> None:
    assert str(Problem("a\nb\udcff.yaml", 1, 2, "", "is wrong")) == r"a\nb\udcff.yaml:1:2: is wrong"


def test_a_path_is_shown_as_people_write_it() -> None:
    assert show_path(("spec", "nodes", 0)) == "spec.nodes[0]"
    assert show_path(("spec", "a\nb")) == r"spec.'a\nb'"
    assert show_path(()) == ""

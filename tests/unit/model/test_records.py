"""Each record by itself: defaults, what is refused, and that it survives being stored."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.model.names import Key
from reconciler.model.records import (
    API_VERSION,
    DeviceSpec,
    DeviceState,
    PoolSpec,
    PoolState,
    Prune,
    ThinDevice,
    ThinPool,
)
from reconciler.model.units import Bytes

GIB = 1024**3
FILES = {"data": {"file": "/srv/a", "size": "1GiB"}, "metadata": {"file": "/srv/b", "size": "32MiB"}}
DEVICES: dict[str, Any] = {"data": {"device": "/dev/sda1"}, "metadata": {"device": "/dev/sda2"}}


def pool(name: str = "tank", **spec: Any) -> ThinPool:
    return ThinPool.model_validate(
        {"apiVersion": API_VERSION, "kind": "ThinPool", "metadata": {"name": name}, "spec": {**FILES, **spec}}
    )


def device(name: str = "app", **spec: Any) -> ThinDevice:
    body = {"pool": "tank", "size": "1GiB", **spec}
    return ThinDevice.model_validate(
        {"apiVersion": API_VERSION, "kind": "ThinDevice", "metadata": {"name": name}, "spec": body}
    )


def said(error: pytest.ExceptionInfo[ValidationError]) -> list[str]:
    return [each["msg"].removeprefix("Value error, ") for each in error.value.errors()]


def test_a_pool_has_the_promised_defaults() -> None:
    spec = pool().spec
    assert (spec.state, spec.block_size, spec.low_water_mark) == (PoolState.ACTIVE, 65536, 10)
    assert (spec.when_full, spec.discards, spec.zero_new_blocks) == ("queue", "passdown", True)
    assert (spec.extend, spec.prune, spec.external, spec.adopt) == (None, Prune.RETAIN, False, False)
    assert (spec.paused, spec.nodes, spec.local_disk) == (False, (), False)


def test_a_device_has_the_promised_defaults() -> None:
    spec = device().spec
    assert (spec.state, spec.size, spec.snapshot_of) == (DeviceState.ACTIVE, GIB, None)
    assert (spec.filesystem, spec.read_only, spec.discard_on_delete) == (None, False, False)
    assert (spec.paused, spec.adopt) == (False, None)


def test_records_know_their_keys_and_dm_names() -> None:
    assert (pool().key, pool().dm_name) == (Key("tank"), "tank")
    assert (device().key, device().dm_name) == (Key("tank", "app"), "tank-app")
    assert device(adopt={"deviceId": 7, "dmName": "vg-thin1"}).dm_name == "vg-thin1"


@pytest.mark.parametrize(
    "record",
    [
        pool(),
        pool(nodes=["web-*", "db-1"], extend={"threshold": "80%", "step": "20%", "max": "100GiB"}, prune="Delete"),
        pool(data={"file": "/srv/a", "size": "2099713s"}),
        device(),
        device(snapshotOf="base", filesystem={"type": "xfs", "label": "x"}, state="Committed"),
        device(adopt={"deviceId": 7, "dmName": "vg-thin1"}),
    ],
)
def test_a_record_survives_being_stored(record: ThinPool | ThinDevice) -> None:
    assert type(record).model_validate_json(record.model_dump_json()) == record
    assert type(record).model_validate(record.model_dump(mode="json")) == record


@pytest.mark.security("S14")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"blockSize": "100KiB"}, "blockSize: must be a multiple of 64KiB, at most 1GiB"),
        ({"blockSize": "2GiB"}, "blockSize: must be a multiple of 64KiB, at most 1GiB"),
        ({"data": {"file": "/srv/a"}}, "size: missing: a file needs a size, such as 20GiB"),
        ({"data": {}}, "give either `device: /dev/...` or `file: /...` with a size"),
        (
            {"data": {"file": "/srv/a", "device": "/dev/a", "size": "1GiB"}},
            "give either `device: /dev/...` or `file: /...` with a size",
        ),
        (
            {"data": {"device": "/dev/a", "size": "1GiB"}},
            "size: only files have one: leave it out, a device is used whole",
        ),
        (
            {"data": {"device": "/dev/a", "preallocate": True}},
            "preallocate: only for files: leave it out, a device is used whole",
        ),
        ({"data": {"file": "/srv/a", "size": "2EiB"}}, "size: too large: must be at most 1EiB"),
        ({"data": {"file": "/srv/a", "size": "32KiB"}}, "data.size: too small: must be at least one block, 64KiB"),
        (
            {"metadata": {"file": "/srv/a", "size": "32MiB"}},
            "metadata: the same path as data: give it a file or device of its own",
        ),
        (
            {"metadata": {"file": "/srv/b", "size": "17GiB"}},
            "metadata.size: must be from 2MiB to 16GiB, as the kernel uses no more",
        ),
        (
            {"metadata": {"file": "/srv/b", "size": "1MiB"}},
            "metadata.size: must be from 2MiB to 16GiB, as the kernel uses no more",
        ),
        (
            {"metadata": {"file": "/srv/b", "size": "4MiB", "preallocate": True}},
            "metadata.preallocate: leave it out: metadata is always allocated in full",
        ),
        (
            {**DEVICES, "extend": {"threshold": "80%", "step": "20%", "max": "2GiB"}},
            "extend: only a pool whose data and metadata are files can grow by itself: leave it out",
        ),
        (
            {"extend": {"threshold": "80%", "step": "20%", "max": "1MiB"}},
            "extend.max: less than data.size: must be at least 1GiB",
        ),
        (
            {"external": True, "adopt": True},
            "adopt: an external pool stays somebody else's: leave out adopt, or external",
        ),
        ({"data": {"device": "dev/a"}}, "not an absolute path: write it from /"),
        (
            {"data": {"device": "/dev/../etc"}},
            "not a plain path: write it without . and .. and doubled or trailing slashes",
        ),
        ({"data": {"device": "/dev/a\n"}}, "a path has at most 4000 characters, and no control characters"),
        ({"nodes": [""]}, 'not a host name or pattern: write "web-1" or "web-*"'),
    ],
)
def test_a_wrong_pool_is_refused_with_what_would_be_right(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        pool(**spec)
    assert said(error) == [message]


@pytest.mark.security("S14")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"size": None}, "size: missing: only a snapshot and an adopted device take theirs from what exists"),
        ({"size": "2EiB"}, "size: too large: must be at most 1EiB"),
        (
            {"snapshotOf": "base", "adopt": {"deviceId": 1, "dmName": "x"}},
            "adopt: an adopted device exists already: leave snapshotOf out",
        ),
        (
            {"adopt": {"deviceId": 1, "dmName": "a/b"}},
            "not a dm name: write it as `dmsetup ls` shows it, at most 127 characters",
        ),
        ({"filesystem": {"type": "ext4", "blockSize": "8KiB"}}, "blockSize: must be 1KiB, 2KiB or 4KiB"),
        ({"filesystem": {"type": "xfs", "label": "thirteenchars"}}, "label: too long: xfs takes at most 12 characters"),
        (
            {"filesystem": {"type": "ext4", "label": "-O x"}},
            "not a label: use letters, digits and . _ -, at most 16 characters for ext4 and 12 for xfs",
        ),
    ],
)
def test_a_wrong_device_is_refused_with_what_would_be_right(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        device(**spec)
    assert said(error) == [message]


@pytest.mark.security("S14")
@pytest.mark.parametrize("name", ["a/b", "a b", "..", ".hidden", "-x", "", "a\n", "a\x00", "x" * 64, "é"])
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not a name"):
        pool(name)
    with pytest.raises(ValidationError, match="not a name"):
        device(name)


@pytest.mark.parametrize("part", ["data", "metadata"])
def test_only_an_external_pool_may_leave_out_what_it_lies_on(part: str) -> None:
    spec = {name: backing for name, backing in FILES.items() if name != part}
    with pytest.raises(ValidationError, match=f"{part}: missing: write"):
        PoolSpec.model_validate(spec)
    external = PoolSpec.model_validate({"external": True})
    assert (external.backings, external.data) == ((), None)


def test_a_pool_of_ones_own_has_both_disks() -> None:
    assert [backing.path for backing in pool().spec.backings] == ["/srv/a", "/srv/b"]


@pytest.mark.parametrize("spec", [{"snapshot_of": "a"}, {"state": DeviceState.ABSENT}])
def test_a_size_is_not_asked_for_where_it_comes_from_elsewhere_or_nobody_needs_it(spec: dict[str, Any]) -> None:
    assert DeviceSpec(pool="tank", **spec).size is None


@pytest.mark.parametrize("nodes", [["web-*"], ["web-?"], ["web-[12]"], ["web-1", "web-2"]])
def test_a_shared_disk_may_not_be_declared_for_several_hosts(nodes: list[str]) -> None:
    with pytest.raises(ValidationError, match="may fit one host only"):
        pool(**DEVICES, nodes=nodes)
    assert pool(**DEVICES, nodes=nodes, localDisk=True).spec.local_disk
    assert pool(nodes=nodes).spec.nodes == tuple(nodes)


def test_a_shared_disk_may_be_declared_for_one_host() -> None:
    record = pool(**DEVICES, nodes=["web-1"])
    assert record.fits("web-1")
    assert not record.fits("web-2")


@pytest.mark.parametrize(("node", "fits"), [("web-1", True), ("db-1", False), ("WEB-1", False)])
def test_nodes_are_shell_patterns(node: str, *, fits: bool) -> None:
    assert pool(nodes=["web-*"]).fits(node) is fits


def test_a_pool_without_nodes_is_for_every_host() -> None:
    assert pool().fits("anything")


def test_a_record_made_in_code_takes_plain_sizes() -> None:
    assert DeviceSpec(pool="tank", size=Bytes(GIB)).size == GIB

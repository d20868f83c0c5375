"""udev on a real kernel: what is lost is noticed, and comes back when udev looks again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos import udevd
from reconciler.kernel import host
from reconciler.kernel.host import HostUdev
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError, WorkerTimeoutError
from reconciler.model.live import DeviceInfo

MIB = 1024 * 1024
MakeLoop = Callable[..., Path]
Dmsetup = Callable[..., Any]
MakeLinear = Callable[..., DeviceInfo]


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def settle() -> None:
    sh("udevadm", "settle")


@pytest.fixture
def udev() -> HostUdev:
    return HostUdev()


@pytest.fixture
def device(make_loop: MakeLoop, prefix: str, dm: Any, dmsetup: Dmsetup) -> DeviceInfo:
    """A dm device with an ext4 on it that udev knows."""
    return make_device(dm, dmsetup, prefix + "one", make_loop("disk"))


def make_device(dm: Any, dmsetup: Dmsetup, name: str, node: Path) -> DeviceInfo:
    if sh("lsblk", "-no", "FSTYPE", str(node)) != "ext4":
        sh("mkfs.ext4", "-q", "-F", "-L", "dmrlabel", str(node))
    dmsetup("create", name, "--uuid", f"DMR-{name}", "--table", f"0 {64 * MIB // 512} linear {node} 0")
    settle()
    info = dm.info(name)
    assert isinstance(info, DeviceInfo)
    return info


def links(info: DeviceInfo) -> list[str]:
    said = sh("udevadm", "info", "--query=symlink", f"/dev/dm-{info.devno.minor}")
    return [f"/dev/{link}" for link in said.split()]


def test_udev_runs_here(udev: HostUdev) -> None:
    assert udev.running()


def test_udev_that_is_not_there_does_not_run(
    udev: HostUdev, monkeypatch: pytest.MonkeyPatch, workdir: Path, device: DeviceInfo
) -> None:
    monkeypatch.setattr(host, "_CONTROL", str(workdir / "control"))
    assert not udev.running()
    with pytest.raises(HostError) as refused:
        udev.trigger(device.devno)
    assert refused.value.errno == errno.ECONNREFUSED


def test_a_whole_device_misses_nothing(udev: HostUdev, device: DeviceInfo) -> None:
    assert len(links(device)) >= 5
    assert udev.missing(device) == ()


def test_lost_links_are_noticed_and_come_back(udev: HostUdev, device: DeviceInfo) -> None:
    lost = links(device)
    for link in lost:
        Path(link).unlink()
    missing = udev.missing(device)
    assert missing[0] == f"/dev/mapper/{device.name}"
    assert sorted(missing) == sorted(lost)
    udev.trigger(device.devno)
    assert udev.missing(device) == ()


def test_a_link_to_another_device_is_noticed_and_put_right(
    udev: HostUdev, device: DeviceInfo, make_loop: MakeLoop
) -> None:
    stranger = make_loop("stranger")
    for link in (f"/dev/mapper/{device.name}", "/dev/disk/by-label/dmrlabel"):
        Path(link).unlink()
        Path(link).symlink_to(stranger)
        assert udev.missing(device) == (link,)
        udev.trigger(device.devno)
        assert udev.missing(device) == ()


def test_a_link_that_leads_in_a_circle_is_noticed(udev: HostUdev, device: DeviceInfo) -> None:
    node = Path("/dev/mapper", device.name)
    node.unlink()
    node.symlink_to(node)
    assert udev.missing(device) == (str(node),)
    udev.trigger(device.devno)
    assert udev.missing(device) == ()


def test_a_true_node_instead_of_a_link_is_as_good(udev: HostUdev, device: DeviceInfo) -> None:
    node = Path("/dev/mapper", device.name)
    node.unlink()
    os.mknod(node, 0o60660, os.makedev(device.devno.major, device.devno.minor))
    assert udev.missing(device) == ()


def test_a_false_node_is_for_mknodes(udev: HostUdev, device: DeviceInfo, dm: Any) -> None:
    node = Path("/dev/mapper", device.name)
    node.unlink()
    os.mknod(node, 0o60660, os.makedev(7, 7))
    assert udev.missing(device) == (str(node),)
    udev.trigger(device.devno)
    assert udev.missing(device) == (str(node),)
    dm.mknodes(device.name)
    assert udev.missing(device) == ()


def test_a_copy_with_the_same_uuid_misses_nothing(
    udev: HostUdev, device: DeviceInfo, dm: Any, dmsetup: Dmsetup, make_loop: MakeLoop
) -> None:
    node = make_loop("copy")
    sh("dd", f"if=/dev/mapper/{device.name}", f"of={node}", "bs=1M", "conv=notrunc,fsync")
    copy = make_device(dm, dmsetup, f"{device.name}-two", node)
    shared = set(links(device)) & set(links(copy))
    assert shared, "both claim the links of the filesystem"
    assert udev.missing(device) == ()
    assert udev.missing(copy) == ()
    for link in shared:
        Path(link).unlink()
    assert set(udev.missing(device)) == set(udev.missing(copy)) == shared


def test_a_link_that_udev_promises_later_is_missed_too(udev: HostUdev, device: DeviceInfo) -> None:
    assert udev.missing(device) == ()
    sh("e2label", f"/dev/mapper/{device.name}", "another")
    settle()
    udev.trigger(device.devno)
    link = "/dev/disk/by-label/another"
    assert link in links(device)
    Path(link).unlink()
    assert udev.missing(device) == (link,)


def test_a_device_that_udev_does_not_know_needs_its_node_alone(udev: HostUdev, device: DeviceInfo) -> None:
    database = Path(f"/run/udev/data/b{device.devno}")
    database.unlink()
    Path("/dev/disk/by-label/dmrlabel").unlink()
    assert udev.missing(device) == ()
    Path("/dev/mapper", device.name).unlink()
    udev.trigger(device.devno)
    assert udev.missing(device) == ()
    assert Path("/dev/disk/by-label/dmrlabel").exists()


def test_no_such_device_lacks_its_node(udev: HostUdev, device: DeviceInfo) -> None:
    ghost = replace(device, name=f"{device.name}-none", devno=Devno(device.devno.major, 9999))
    assert udev.missing(ghost) == (f"/dev/mapper/{ghost.name}",)
    with pytest.raises(HostError) as refused:
        udev.trigger(ghost.devno)
    assert refused.value.errno == errno.ENOENT


def test_udev_that_does_not_answer_is_not_waited_for(
    udev: HostUdev, device: DeviceInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_DEADLINE", 1.0)
    udevd.stop()
    try:
        with pytest.raises(WorkerTimeoutError):
            udev.trigger(device.devno)
    finally:
        udevd.go_on()
        settle()

"""Names that the kernel hands out in the order in which it meets the disks, and names that stay."""

from __future__ import annotations

import pytest

from reconciler.kernel.block.disk_marks import is_unstable, stable_name


@pytest.mark.parametrize(
    "path",
    [
        "/dev/sda",
        "/dev/sdab12",
        "/dev/vdb",
        "/dev/xvdf1",
        "/dev/hda",
        "/dev/ubdb",
        "/dev/nvme1n1",
        "/dev/nvme1n1p2",
        "/dev/mmcblk0p1",
        "/dev/loop0",
        "/dev/loop12p3",
        "/dev/dm-3",
        "/dev/md127",
        "/dev/nbd0p1",
        "/dev/ram0",
    ],
)
def test_what_is_numbered_is_unstable(path: str) -> None:
    assert is_unstable(path)


@pytest.mark.parametrize(
    "path",
    [
        "/dev/disk/by-id/wwn-0x5000c500a0b1c2d3",
        "/dev/disk/by-partuuid/1f2e",
        "/dev/mapper/vg-data",
        "/dev/vg/data",
        "/dev/md/data",
        "/dev/sda-is-mine",
        "/srv/sda",
    ],
)
def test_what_is_named_is_stable(path: str) -> None:
    assert not is_unstable(path)


def test_what_is_not_on_this_host_has_no_name_here() -> None:
    assert stable_name("/dev/sdzzz99") is None

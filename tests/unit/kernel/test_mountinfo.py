"""Lines of /proc/PID/mountinfo."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.kernel.block import holders
from reconciler.kernel.block.holders import (
    Mount,
    _mountinfo_if_there,
    _namespace,
    all_processes,
    mounted_here,
    mounts_of,
    parse,
    read_mountinfo,
)
from reconciler.model.dm_tables import Devno


@pytest.mark.parametrize(
    ("line", "mount"),
    [
        (b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw", Mount(Devno(98, 0), "/mnt2", "/dev/root")),
        (b"36 35 0:44 / /a\\040b rw - btrfs /dev/sda\\134x rw", Mount(Devno(0, 44), "/a b", "/dev/sda\\x")),
        (b"36 35 0:44 / /x rw shared:1 master:2 - tmpfs  rw", Mount(Devno(0, 44), "/x", "")),
    ],
)
def test_lines_are_read(line: bytes, mount: Mount) -> None:
    assert parse(line) == mount


@given(st.binary())
def test_any_line_is_survived(line: bytes) -> None:
    mount = parse(line)
    assert mount is None or mount.devno.major >= 0


def test_our_own_mounts_are_read() -> None:
    assert "/proc" in {mount.point for mount in read_mountinfo("self")}
    assert all(pid > 0 for pid in all_processes())


def test_a_process_that_has_gone_has_no_namespace() -> None:
    assert _namespace("4999999") == ""
    assert _mountinfo_if_there(4999999) == []


def test_points_are_told_once_and_our_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Devno(8, 1)
    own = [Mount(device, "/srv", "/dev/sda1"), Mount(Devno(8, 2), "/", "/dev/sda2"), Mount(device, "/srv", "/dev/sda1")]
    theirs = {7: [Mount(device, "/srv", ""), Mount(device, "/data", "")], 9: [Mount(device, "/data", "")]}
    monkeypatch.setattr(holders, "read_mountinfo", lambda process: own if process == "self" else theirs[int(process)])
    monkeypatch.setattr(holders, "_one_process_a_namespace", lambda: [7, 9])
    assert mounts_of(device) == ["/srv", "/data (in the mount namespace of pid 7)"]
    assert mounted_here(device) == ["/srv"]

"""The commands that `plan` shows can be copied into a shell."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.kernel.command_lines import (
    Command,
    grow_filesystem_command,
    grow_in_private_mount_command,
    mkfs_command,
    shell_line,
    thin_check_command,
    thin_ls_command,
)
from reconciler.kernel.protocol import Mkfs
from reconciler.kernel.steps.table import commands_of
from reconciler.model.dm_tables import Devno, ThinTable
from reconciler.model.steps import (
    AttachLoop,
    DeleteFile,
    DiscardThin,
    GrowFile,
    HostStep,
    MakeFile,
    MakeWritable,
    RefreshNodes,
    ZeroSuperblock,
)
from reconciler.model.units import Bytes, Sectors

EXT4 = Mkfs("ext4", "daemon", Bytes(4096), discard=False)
XFS = Mkfs("xfs", "", Bytes(4096), discard=True)


@pytest.mark.security("S09")
@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1))
def test_a_line_says_the_very_words(words: list[str]) -> None:
    assert shlex.split(shell_line(tuple(words))) == words


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (mkfs_command("/dev/x", EXT4), "mkfs.ext4 -q -E lazy_itable_init=1,nodiscard -L daemon -b 4096 /dev/x"),
        (mkfs_command("/dev/x", XFS), "mkfs.xfs -q -b size=4096 /dev/x"),
        (thin_check_command("/dev/x"), "thin_check --ignore-non-fatal-errors /dev/x"),
        (
            thin_ls_command("/dev/x", live=True),
            "thin_ls --no-headers --format DEV,MAPPED_BLOCKS,TRANSACTION --metadata-snap /dev/x",
        ),
    ],
)
def test_what_a_program_does_is_shown_as_it_is_run(command: Command, line: str) -> None:
    assert shell_line(command) == line


THIN = ThinTable(Sectors(2048), Devno(253, 1), 7).target()


@pytest.mark.parametrize(
    ("step", "lines"),
    [
        (MakeFile("/srv/data", Bytes(512), allocate=False), ["truncate -s 512 /srv/data"]),
        (MakeFile("/srv/da ta", Bytes(512), allocate=True), ["fallocate -l 512 '/srv/da ta'"]),
        (GrowFile("/srv/data", Bytes(512), allocate=False), ["truncate -s '>512' /srv/data"]),
        (GrowFile("/srv/data", Bytes(512), allocate=True), ["fallocate -l 512 /srv/data"]),
        (DeleteFile("/srv/da ta"), ["rm -f '/srv/da ta'"]),
        (ZeroSuperblock("/dev/loop0"), ["dd if=/dev/zero of=/dev/loop0 bs=4096 count=1 conv=notrunc,fsync"]),
        (AttachLoop("/srv/data"), ["losetup --find --show --nooverlap --direct-io=on /srv/data"]),
        (MakeWritable("tank", None), ["blockdev --setrw /dev/mapper/tank"]),
        (
            RefreshNodes("tank", Devno(254, 3)),
            ["udevadm trigger --action=change --settle /sys/dev/block/254:3", "dmsetup mknodes tank"],
        ),
        (
            DiscardThin("x", "DMR-1", THIN),
            [
                "dmsetup create x --uuid DMR-1 --notable",
                "dmsetup load x --table '0 2048 thin 253:1 7'",
                "dmsetup resume x",
                "blkdiscard /dev/mapper/x",
                "dmsetup remove x",
            ],
        ),
    ],
)
def test_each_step_has_its_commands(step: HostStep, lines: list[str]) -> None:
    assert commands_of(step) == lines


def test_without_discard_nothing_is_discarded() -> None:
    assert "-K" in mkfs_command("/dev/x", Mkfs("xfs", "", Bytes(4096), discard=False))
    assert "discard" in shell_line(mkfs_command("/dev/x", Mkfs("ext4", "", Bytes(4096), discard=True))).replace(
        "nodiscard", ""
    )


@pytest.mark.parametrize(
    ("kind", "mounted_at", "line"),
    [
        ("ext4", "/srv", "resize2fs /dev/x"),
        ("xfs", "/srv", "xfs_growfs /srv"),
        ("ext4", None, "e2fsck -f -p /dev/x && resize2fs /dev/x"),
    ],
)
def test_growing_depends_on_what_it_is_and_where(kind: str, mounted_at: str | None, line: str) -> None:
    assert shell_line(*grow_filesystem_command("/dev/x", kind, mounted_at)) == line


def test_a_closed_xfs_grows_in_a_private_mount() -> None:
    (command,) = grow_filesystem_command("/dev/x", "xfs", None)
    assert command[:4] == ("unshare", "--mount", "--propagation", "private")
    assert command[-1] == "/dev/x"


@pytest.mark.security("S45")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize(("failing", "status"), [("", 0), ("mount", 1), ("grow", 3), ("umount", 4)])
def test_the_script_cleans_up_whatever_fails(tmp_path: Path, kind: str, failing: str, status: int) -> None:
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    for name, code in (("mount", 32), ("umount", 4), ("resize2fs", 3), ("xfs_growfs", 3)):
        fails = failing == name or (failing == "grow" and code == 3)
        (programs / name).write_text(f"#!/bin/sh\necho {name} >>{log}\nexit {code if fails else 0}\n")
        (programs / name).chmod(0o755)
    command = grow_in_private_mount_command("/dev/x", kind)
    script = command[command.index("sh") :]
    done = subprocess.run(
        script, check=False, env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}, timeout=10
    )
    assert done.returncode == status
    assert ("umount" in log.read_text().split()) == (failing != "mount")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "log"]

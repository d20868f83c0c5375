"""What a path may lead to: a plain file or a block device, and everything else is something else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from reconciler.kernel.block import files
from reconciler.model.live import PathKind


def kind(path: object) -> PathKind:
    return files.kind(str(path))[0]


def test_a_plain_file_is_one_and_a_link_to_it_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert kind(tmp_path / "file") is kind(tmp_path / "link") is PathKind.FILE
    assert kind(tmp_path / "missing") is PathKind.MISSING


@pytest.mark.security("S16")
@pytest.mark.parametrize(
    "path", ["/proc/sysrq-trigger", "/proc/self/mem", "/proc/sys/kernel/hostname", "/sys/kernel/uevent_seqnum"]
)
def test_a_file_of_the_kernels_is_none_though_it_looks_plain_and_empty(path: str, tmp_path: Path) -> None:
    if not Path(path).exists():
        pytest.skip(f"NOT TESTED: this kernel has no {path}")
    (tmp_path / "link").symlink_to(path)
    assert Path(path).is_file()
    assert kind(path) is kind(tmp_path / "link") is PathKind.OTHER


def test_a_filesystem_without_blocks_is_the_kernels_wherever_it_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    fields = list(os.statvfs(tmp_path))
    fields[2] = 0
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert kind(tmp_path / "file") is PathKind.OTHER


@pytest.mark.security("S16")
def test_neither_directory_nor_fifo_nor_socket_nor_character_device_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket")
        assert {kind(path) for path in (tmp_path, "fifo", "socket", "/dev/null")} == {PathKind.OTHER}

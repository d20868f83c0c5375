"""What the kernel and programs say: status lines, tables, /proc, /sys, thin_ls, superblocks."""

from __future__ import annotations

import re
import shlex

from reconciler.kernel.block.files import read_superblock
from reconciler.kernel.block.holders import parse_mountinfo, parse_swaps
from reconciler.kernel.command_lines import shell_line
from reconciler.kernel.programs import Said, read_ids
from reconciler.model.dm_tables import (
    OtherTable,
    PoolFailure,
    PoolMode,
    PoolStatus,
    PoolTable,
    ThinStatus,
    ThinTable,
    parse_devno,
    read_pool_status,
    read_table,
    read_thin_status,
)
from reconciler.model.dm_tables import Target as Line
from reconciler.model.errors import HostError
from reconciler.model.live import Superblock
from reconciler.model.names import of_store
from reconciler.model.units import Sectors, whole_number
from reconciler.planner.ownership import owner_of
from tests.fuzz.target import Target, refuses, text_of
from tests.unit.planner import builders as a

_NUMBERS = (b"0", b"1", b"4161600/4161600", b"5/4", b"-", b"18446744073709551616", b"0 ", b" 1")
_POOL_WORDS = (
    *(b"rw", b"ro", b"out_of_data_space", b"discard_passdown", b"no_discard_passdown", b"ignore_discard"),
    *(b"queue_if_no_space", b"error_if_no_space", b"needs_check", b"Fail", b"Error", b"fail", b"RW", b"read_only"),
    *(b"degraded", b"fail_if_no_space", b"needs-check", b"metadata_corrupt"),
)
_HEALTHY = re.compile(
    r"\d+ \d+/\d+ \d+/\d+ (-|\d+) (rw|ro|out_of_data_space)"
    r"( (no_discard_passdown|discard_passdown|ignore_discard|queue_if_no_space|error_if_no_space|needs_check|-))*( \d+)?",
    re.ASCII,
)
"""What the kernel's documentation says, and nothing beyond it."""


def _pool_status(data: bytes) -> None:
    text = text_of(data)
    status = read_pool_status(text)
    if isinstance(status, PoolFailure):
        assert status.mode in {PoolMode.FAIL, PoolMode.ERROR}
        return
    assert isinstance(status, PoolStatus)
    assert _HEALTHY.fullmatch(" ".join(text.split())), f"read as {status.mode}"
    assert min(status.transaction_id, status.data_used, status.data_total, status.metadata_used) >= 0
    assert (status.mode is PoolMode.NEEDS_CHECK) == ("needs_check" in text.split())


def _thin_status(data: bytes) -> None:
    text = text_of(data)
    status = read_thin_status(text)
    if isinstance(status, ThinStatus):
        assert re.fullmatch(r"\d+ (-|\d+)", " ".join(text.split()), re.ASCII)


def _table(data: bytes) -> None:
    """Lines as dmsetup writes them. What is understood is written the same again."""
    lines = []
    for text in text_of(data).split("\n")[:100]:
        start, _, rest = text.partition(" ")
        length, _, rest = rest.partition(" ")
        kind, _, params = rest.partition(" ")
        if whole_number(start) is not None and whole_number(length) is not None:
            lines.append(Line(Sectors(int(start)), Sectors(int(length)), kind, params))
    found = read_table(tuple(lines))
    if isinstance(found, ThinTable):
        again = read_table((found.target(),))
        assert again == found
        assert len(lines) == 1
    if isinstance(found, PoolTable):
        assert read_table((found.target(),)) == found
    if isinstance(found, OtherTable):
        assert len(found.types) == len(lines)


def _devno(data: bytes) -> None:
    text = text_of(data)
    found = parse_devno(text)
    if found is not None:
        assert re.fullmatch(r"[0-9]+:[0-9]+", text)
        assert parse_devno(str(found)) == found


def _mountinfo(data: bytes) -> None:
    """No mount is lost because of another one's name: each line of the kernel is read by itself."""
    found = parse_mountinfo(data)
    known = b"36 35 98:0 / /mnt rw - ext4 /dev/root rw"
    assert len(parse_mountinfo(data + b"\n" + known + b"\n")) == len(found) + 1
    assert all(mount.point for mount in found if b"  " not in data)


def _swaps(data: bytes) -> None:
    found = parse_swaps(data)
    assert len(found) <= data.count(b"\n")
    assert parse_swaps(data + b"\n/dev/sda2\tpartition\t1\t0\t-2\n")[-1] == "/dev/sda2"


def _thin_ls(data: bytes) -> None:
    output = data.decode(errors="replace")
    if refuses(lambda: read_ids(output, "/dev/x"), HostError):
        return
    ids = read_ids(output, "/dev/x")
    assert len(ids) == sum(1 for each in output.split("\n") if each.strip())
    assert all(0 <= number < 2**24 for number in ids)


def _program(data: bytes) -> None:
    """What a program says in the end is shown to people, on one line."""
    output, _, errors = data.decode(errors="replace").partition("\x00")
    said = Said(1, output, errors).last_line
    assert "\n" not in said
    assert not said or said.strip() == said


def _superblock(data: bytes) -> None:
    for block in (data, (data + bytes(4096))[:4096], data[:32] + (27022010).to_bytes(8, "little") + data[40:]):
        kind, transaction = read_superblock(block)
        assert (kind is Superblock.POOL) == (transaction is not None)
        if len(block) < 4096:
            assert kind is Superblock.UNREAD


def _uuid(data: bytes) -> None:
    """Whose a device is, by what somebody wrote into its UUID: never ours by chance."""
    text = text_of(data)
    for uuid in (text, f"{text}-private"):
        assert owner_of(a.info(uuid=uuid))
        assert not of_store(uuid, "6" * 32)
    assert shlex.split(shell_line(("dmsetup", "remove", text))) == ["dmsetup", "remove", text]


TARGETS = (
    Target("pool_status", _pool_status, (*_NUMBERS, *_POOL_WORDS), share=2),
    Target("thin_status", _thin_status, (*_NUMBERS, *_POOL_WORDS), share=2),
    Target(
        "table",
        _table,
        (*_NUMBERS, *_POOL_WORDS, b"thin", b"thin-pool", b"error", b"linear", b"253:0", b"skip_block_zeroing"),
    ),
    Target("devno", _devno, (b":", b"253:1", b"4096:0", b"8:1048576"), share=2),
    Target(
        "mountinfo",
        _mountinfo,
        (b" - ", b"\\040", b"\\134", b"\\999", b"8:0", b"0:45", b"/dev/sda", b" ", b"\r", b"\x0c"),
    ),
    Target("swaps", _swaps, (b"\t", b"\\040", b"/dev/sda2", b"partition", b"\r", b"\x0c")),
    Target("thin_ls", _thin_ls, (b"16777215", b"16777216", b" ", b"\n")),
    Target("program", _program, (b"Usage: ", b"usage:", b"\n", b"\r", b"\x0b"), share=0.5),
    Target("superblock", _superblock, ((27022010).to_bytes(8, "little"), bytes(64)), share=0.5),
    Target("uuid", _uuid, (b"DMR-", b"LVM-", b"-private", b"5" * 32, b"$(x)"), share=0.5),
)

"""The stable name of a disk whose path may lead to another one after the next boot: `/dev/sdb`, `/dev/nvme1n1`, `/dev/loop0`.

Source: the links that udev makes in /dev/disk, of which those count that come from the disk or its partition table, not
from what is on it; the names of device-mapper; the file behind a loop.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.hostcalls import devno_of, read_attribute, sysfs

_UNSTABLE: Final = re.compile(
    r"/dev/(?:(?:[shv]|xv|ub)d[a-z]+\d*|(?:nvme\d+n\d+|mmcblk\d+|loop\d+|nbd\d+|md\d+|pmem\d+)(?:p\d+)?|dm-\d+|(?:ram|zram|rbd)\d+)"
)
_FOLDERS: Final = ("by-id", "by-partuuid", "by-path")
"""Of /dev/disk, the best first: a path through buses changes when the disk is plugged in elsewhere."""
_OF_CONTENT: Final = ("lvm-pv-uuid-", "dm-uuid-", "dm-name-")
_BEST: Final = ("wwn-", "nvme-eui.", "nvme-uuid.", "nvme-nvme.")
"""What the disk's maker made unique, before names of model and serial."""


def is_unstable(path: str) -> bool:
    """Whether the kernel numbers such names in the order in which it meets the disks."""
    return _UNSTABLE.fullmatch(path) is not None


def stable_name(path: str) -> str:
    """What to write in a record instead: `device: /dev/disk/by-id/...`; empty where nothing stable leads there, or the
    path is not on this host.
    """
    try:
        number = devno_of(os.stat(path).st_rdev)  # noqa: PTH116  # nothing else of it is needed
    except OSError:
        return ""
    mapped = read_attribute(sysfs(number) / "dm/name")
    if mapped:
        return f"device: /dev/mapper/{mapped}"
    link = _link_to(os.path.realpath(path))
    if link:
        return f"device: {link}"
    file = loops.backing_file(number)
    return f"file: {file}" if file else ""


def stable_path(node: str) -> str:
    """A node in /dev by a name that stays, where udev has one for it; else the node itself."""
    return _link_to(os.path.realpath(node)) or node


def _link_to(node: str) -> str:
    for folder in _FOLDERS:
        links = [link for link in _links(Path("/dev/disk", folder)) if os.path.realpath(link) == node]
        if links:
            return str(min(links, key=_rank))
    return ""


def _rank(link: Path) -> tuple[bool, str]:
    return not link.name.startswith(_BEST), link.name


def _links(folder: Path) -> list[Path]:
    try:
        return [link for link in folder.iterdir() if not link.name.startswith(_OF_CONTENT)]
    except OSError:  # no udev, or none of these
        return []

"""Checks whether this host is fit, as far as that can be found out without touching a device; reports suspicious loops.

Nothing here blocks or needs root. Loops on deleted files, or two loops on one file, may be anybody's, so they are only
reported.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.doctor.checks import Check, Severity
from reconciler.kernel.block import loops
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.nodes import udevd_answers, udevd_listens, why_udevd_is_silent
from reconciler.kernel.privileges import IPC_LOCK, SYS_ADMIN, missing
from reconciler.kernel.programs import search_path
from reconciler.model.errors import HostError
from reconciler.model.live import Loop

_DELETED: Final = " (deleted)"


def check_loops(ours: frozenset[str]) -> list[Check]:
    """Reports suspicious loops. `ours` are the files of pools that the store or the records name."""
    try:
        found = [(loop, _file(loop)) for loop in loops.loops()]
        twice = _several(found)
    except (HostError, OSError) as error:
        return [Check("loops", Severity.UNKNOWN, f"cannot be looked at: {getattr(error, 'strerror', None) or error}")]
    deleted = [_deleted(loop, file, ours) for loop, file in found if loop.deleted]
    # The loops of pools are reported with their pool.
    several = [_twice(nodes, file) for nodes, file in twice if file not in ours]
    return [*deleted, *several] or [Check("loops", Severity.OK, f"{len(found)} in use, none of them stale")]


def _file(loop: Loop) -> str:
    """The path in /sys, for messages only, because it belongs to some mount namespace."""
    folder = Path("/sys/block", Path(loop.path).name, "loop")
    try:
        return (folder / "backing_file").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _several(found: list[tuple[Loop, str]]) -> list[tuple[list[str], str]]:
    """Loops on the same file, compared by device, inode and offset: different parts of a file are no conflict."""
    groups: defaultdict[tuple[int, int, int], list[tuple[Loop, str]]] = defaultdict(list)
    for loop, file in found:
        seen = loops.behind(loop.devno)
        if seen is not None and not seen.block_device:
            groups[seen.device, seen.inode, seen.offset].append((loop, file))
    return [([loop.path for loop, _ in group], group[0][1]) for group in groups.values() if len(group) > 1]


def _deleted(loop: Loop, file: str, ours: frozenset[str]) -> Check:
    path = file.removesuffix(_DELETED)
    if path not in ours:
        text = f"on a deleted file ({path}); it may be somebody's: `losetup --detach {loop.path}` if it is nobody's"
        return Check(loop.path, Severity.LEFT, text)
    text = f"on {path}, a pool's file, which was deleted: what is written there is gone with the loop"
    return Check(
        loop.path, Severity.WRONG, text, f"copy what you need from {loop.path}, then `losetup --detach {loop.path}`"
    )


def _twice(nodes: list[str], file: str) -> Check:
    text = (
        f"all on {file}: two views of one disk, which corrupt it if both are written to; left, as they may be meant so"
    )
    return Check(", ".join(nodes), Severity.LEFT, text)


_NAMESPACES: Final = {
    "ipc": (0xEFFFFFFF, "udev's semaphores are in the host's (`--ipc=host`)"),
    "pid": (0xEFFFFFFC, "who holds a device is seen in the host's (`--pid=host`)"),
}
"""The inode numbers of the host's own namespaces (include/linux/proc_ns.h). The network namespace has no fixed one;
`--network=host` is for that.
"""
_RULES: Final = ("55-dm.rules", "10-dm.rules")
"""The names of the rules in Debian and upstream."""
_RULES_IN: Final = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
_AS_ROOT: Final = "run it as root: `sudo dm-reconciler doctor`"
_COOKIE: Final = 0x0D4D
"""The upper half of the keys of device-mapper's semaphores (libdevmapper: DM_COOKIE_MAGIC)."""
_MANY_COOKIES: Final = 16


@dataclass(frozen=True, slots=True)
class Needs:
    """What the records need from the host. Without records, only what every pool needs."""

    filesystems: frozenset[str] = frozenset()
    files: bool = False
    """Whether a pool lies on files, which need loops."""


@dataclass(frozen=True, slots=True)
class _Program:
    package: str
    """The package that has the program in Debian and Ubuntu."""
    why: str
    filesystem: str = ""
    """The filesystem for which the program is needed; empty if it is always needed."""


_PROGRAMS: Final = {
    "thin_check": _Program("thin-provisioning-tools", "a pool is checked before it is activated"),
    "thin_ls": _Program("thin-provisioning-tools", "thin ids are read with it"),
    "thin_repair": _Program("thin-provisioning-tools", "repairs a pool's metadata, by hand"),
    "mkfs.ext4": _Program("e2fsprogs", "makes ext4", "ext4"),
    "e2fsck": _Program("e2fsprogs", "before ext4 grows", "ext4"),
    "resize2fs": _Program("e2fsprogs", "grows ext4", "ext4"),
    "mkfs.xfs": _Program("xfsprogs", "makes xfs", "xfs"),
    "xfs_growfs": _Program("xfsprogs", "grows xfs", "xfs"),
    "blkdiscard": _Program("util-linux", "for the command lines that `plan` shows", "-"),
}


def check_kernel() -> tuple[list[Check], bool]:
    """Checks the kernel. Returns the checks, and whether devices can be scanned."""
    try:
        dm = LibDm()
    except HostError as fault:
        return [Check("libdevmapper", Severity.WRONG, fault.detail, "`apt-get install libdevmapper1.02.1`")], False
    try:
        library, driver = dm.versions()
        targets = dm.targets()
    except HostError as fault:
        return [_no_driver(fault)], False
    checks = [
        Check("device-mapper", Severity.OK, f"kernel {os.uname().release}, driver {driver}, libdevmapper {library}")
    ]
    missing = [name for name in ("thin-pool", "thin") if name not in targets]
    if missing:
        text = f"the kernel has not loaded {' and '.join(missing)}"
        todo = "`modprobe dm_thin_pool`, and put that name into /etc/modules-load.d/dm-reconciler.conf for every boot"
        return [*checks, Check("targets", Severity.WRONG, text, todo)], True
    told = ", ".join(f"{name} {targets[name]}" for name in ("thin", "thin-pool"))
    return [*checks, Check("targets", Severity.OK, told)], True


def _no_driver(fault: HostError) -> Check:
    if fault.errno in {errno.EACCES, errno.EPERM}:
        return Check("device-mapper", Severity.UNKNOWN, f"not permitted ({fault.code})", _AS_ROOT)
    todo = (
        "`modprobe dm_mod dm_thin_pool`; in a container, give it the host's /dev/mapper/control, or use a host's kernel"
    )
    return Check("device-mapper", Severity.WRONG, f"the kernel has none that can be reached ({fault.code})", todo)


def check_permissions() -> list[Check]:
    lost = missing()
    if not lost:
        return [Check("permissions", Severity.OK, f"user {os.geteuid()}, with all capabilities that are needed")]
    if SYS_ADMIN in lost:
        text = f"user {os.geteuid()}, without {SYS_ADMIN.name}: devices cannot be looked at"
        return [Check("permissions", Severity.WRONG, text, _AS_ROOT)]
    words = "; ".join(f"without {capability.name} {capability.without}" for capability in lost)
    names = ", ".join(capability.name for capability in lost)
    return [Check("permissions", Severity.WRONG, words, f"give the daemon {names}: `systemctl edit dm-reconciler`")]


def check_memory() -> Check:
    """Checks the limit for locked memory. Workers lock their memory, so that they can resume a device that their own
    pages are on.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if IPC_LOCK not in missing() or limit == resource.RLIM_INFINITY:
        return Check("memory lock", Severity.OK, "workers can lock themselves in memory")
    text = f"workers cannot lock themselves in memory (limit {limit // 1024} KiB)"
    return Check(
        "memory lock",
        Severity.WRONG,
        text,
        "give the daemon CAP_IPC_LOCK, or `LimitMEMLOCK=infinity`: `systemctl edit dm-reconciler`",
    )


def check_namespaces() -> list[Check]:
    checks = []
    for name, (host, why) in _NAMESPACES.items():
        try:
            found = os.readlink(f"/proc/self/ns/{name}")  # noqa: PTH115  # it is no path
        except OSError:
            continue  # a kernel without such namespaces has only the host's
        if found != f"{name}:[{host}]":
            todo = f"start it in the host's {name} namespace: {why}"
            checks.append(Check("namespaces", Severity.WRONG, f"not in the host's {name} namespace", todo))
    return checks or [Check("namespaces", Severity.OK, "the host's own, as far as can be told")]


def check_udev() -> list[Check]:
    try:
        running, answers = udevd_listens(), udevd_answers()
    except HostError as fault:
        return [Check("udev", Severity.UNKNOWN, f"cannot be asked: {fault}"), _check_semaphores()]
    if not running and not shutil.which("udevadm"):
        without = "this host has none: nodes in /dev/mapper are made without it, links are not"
        return [Check("udev", Severity.LEFT, without), _check_semaphores()]
    if not answers:
        why, _, todo = why_udevd_is_silent().partition(": ")
        text = f"{why}: nodes in /dev/mapper are made without it, links in /dev/disk are not"
        return [Check("udev", Severity.WRONG, text, todo), _check_semaphores()]
    rules = [name for name in _RULES if any(Path(folder, name).exists() for folder in _RULES_IN)]
    if not rules:
        todo = "`apt-get install dmsetup` (or your system's package with 10-dm.rules)"
        return [Check("udev", Severity.WRONG, "it runs, without device-mapper's rules", todo)]
    return [Check("udev", Severity.OK, f"it runs, with {rules[0]}"), _check_semaphores()]


def _check_semaphores() -> Check:
    """Checks for free semaphores. If all of the host's are in use, by anybody, there is none for a cookie."""
    try:
        table = Path("/proc/sysvipc/sem").read_text(encoding="ascii", errors="replace")
        most = int(Path("/proc/sys/kernel/sem").read_text(encoding="ascii").split()[3])
    except OSError as error:
        return Check("udev cookies", Severity.UNKNOWN, f"cannot be counted: {error.strerror}")
    used = len(table.splitlines()) - 1
    if used < most:
        return _check_cookies(table)
    text = (
        f"all {most} semaphores of this host are in use, {count_cookies(table)} of them device-mapper's: devices come up "
        f"without waiting for udev, and other programs fail"
    )
    todo = (
        "`ipcs -s` shows whose they are, `ipcrm -s ID` removes one, `dmsetup udevcomplete_all 10` those that "
        "device-mapper's programs left behind; `sysctl kernel.sem` shows how many there may be"
    )
    return Check("udev cookies", Severity.WRONG, text, todo)


def _check_cookies(table: str) -> Check:
    count = count_cookies(table)
    text = "none are left" if not count else "1 is in use" if count == 1 else f"{count} are in use"
    if count <= _MANY_COOKIES:
        return Check("udev cookies", Severity.OK, text)
    todo = "`dmsetup udevcomplete_all 10` ends the udev cookies that are older than ten minutes"
    return Check("udev cookies", Severity.WRONG, f"{text}: somebody leaves them behind, until none can be made", todo)


def count_cookies(table: str) -> int:
    """The number of cookies in /proc/sysvipc/sem, whose first column is the key as a signed number."""
    keys = [line.split()[0] for line in table.splitlines()[1:] if line.strip()]
    return sum(1 for key in keys if (int(key) & 0xFFFFFFFF) >> 16 == _COOKIE)


def check_programs(needs: Needs) -> Iterator[Check]:
    found: list[str] = []
    path = search_path()
    for name, program in _PROGRAMS.items():
        if shutil.which(name, path=path):
            found.append(name)
        elif program.filesystem and program.filesystem not in needs.filesystems:
            text = f"not installed; {program.why}, which no record asks for (`apt-get install {program.package}`)"
            yield Check(name, Severity.LEFT, text)
        else:
            yield Check(name, Severity.WRONG, f"not installed: {program.why}", f"`apt-get install {program.package}`")
    if found:
        yield Check("programs", Severity.OK, ", ".join(found))


def check_loop_module(needs: Needs) -> Check:
    if Path("/dev/loop-control").exists():
        return Check("loop devices", Severity.OK, "there are")
    if not needs.files:
        return Check(
            "loop devices", Severity.LEFT, "the module is not loaded (`modprobe loop`); no record asks for files"
        )
    return Check(
        "loop devices", Severity.WRONG, "the kernel has none: pools on files cannot be activated", "`modprobe loop`"
    )

"""The command lines that a person would type, and that more than one place needs. Pure: starts nothing, looks at nothing.

What only one step shows stands at its entry in the table of steps.

`programs.py` runs the commands for which it needs a program, so that what `plan` shows cannot differ from what is done.
Calls of the DeviceMapper protocol are shown as the dmsetup command that does the same, which is never run. What dmsetup
cannot say is that a resume asks udev to leave the device alone.
"""

from __future__ import annotations

import shlex
from typing import Final

from reconciler.kernel.protocol import Mkfs
from reconciler.model.dm_tables import Table

_INFO_COLUMNS = "name,uuid,major,minor,open,events,suspended,tables_loaded,readonly"


def dmsetup_versions() -> str:
    return _line("version")


def dmsetup_targets() -> str:
    return _line("targets")


def dmsetup_list_all() -> str:
    return _line("info", "-c", "--noheadings", "-o", "name,major,minor,events")


def dmsetup_info(name: str) -> str:
    return _line("info", "-c", "--noheadings", "-o", _INFO_COLUMNS, name)


def dmsetup_deps(name: str) -> str:
    return _line("deps", name)


def dmsetup_table(name: str, *, inactive: bool = False) -> str:
    return _line("table", *(["--inactive"] if inactive else []), name)


def dmsetup_status(name: str) -> str:
    return _line("status", "--noflush", name)


def dmsetup_create(name: str, uuid: str) -> str:
    return _line("create", name, *(["--uuid", uuid] if uuid else []), "--notable")


def dmsetup_load(name: str, wanted: Table, *, read_only: bool = False) -> str:
    """--table takes one line; several go through standard input."""
    words = ["load", name, *(["--readonly"] if read_only else [])]
    lines = [str(target) for target in wanted]
    if len(lines) == 1:
        return _line(*words, "--table", lines[0])
    return f"printf '%s\\n' {shlex.join(lines)} | {_line(*words)}"


def dmsetup_resume(name: str) -> str:
    return _line("resume", name)


def dmsetup_resume_unfrozen(name: str) -> str:
    return _line("resume", "--noflush", "--nolockfs", name)


def dmsetup_suspend(name: str) -> str:
    return _line("suspend", name)


def dmsetup_remove(name: str) -> str:
    return _line("remove", name)


def dmsetup_clear(name: str) -> str:
    return _line("clear", name)


def dmsetup_message(name: str, text: str) -> str:
    """To sector 0: the first target."""
    return _line("message", name, "0", text)


def dmsetup_mknodes(name: str) -> str:
    return _line("mknodes", name)


def _line(*words: str) -> str:
    return shlex.join(["dmsetup", *words])


Command = tuple[str, ...]

_MOUNT_OPTIONS: Final = {"ext4": "nosuid,nodev,noexec", "xfs": "nosuid,nodev,noexec,nouuid"}
"""`nouuid`: a snapshot has its origin's UUID, and xfs would refuse to be mounted beside it."""
_GROW_MOUNTED: Final = {"ext4": 'resize2fs "$1"', "xfs": 'xfs_growfs "$place"'}
_IN_PRIVATE_MOUNT: Final = (
    "place=$(mktemp -d) || exit; status=1; "
    'if mount -t {kind} -o {options} "$1" "$place"; then {grow}; status=$?; umount "$place" || status=$?; fi; '
    'rmdir "$place"; exit "$status"'
)


def shell_line(*commands: Command) -> str:
    """For people to copy: quoted, each only if the one before it went well."""
    return " && ".join(shlex.join(command) for command in commands)


def mkfs_command(node: str, wanted: Mkfs) -> Command:
    label = ("-L", wanted.label) if wanted.label else ()
    if wanted.type == "xfs":
        keep = () if wanted.discard else ("-K",)
        return ("mkfs.xfs", "-q", *keep, *label, "-b", f"size={wanted.block_size}", node)
    # The inode tables are left to the kernel: zeroing them here would take time with the device's size.
    options = f"lazy_itable_init=1,{'discard' if wanted.discard else 'nodiscard'}"
    return (f"mkfs.{wanted.type}", "-q", "-E", options, *label, "-b", str(wanted.block_size), node)


def grow_filesystem_command(node: str, kind: str, mounted_at: str | None) -> tuple[Command, ...]:
    """Mounted: online, at the mount point. Closed: checked first (ext4), or in a private mount (xfs)."""
    if mounted_at is not None:
        return (("resize2fs", node),) if kind == "ext4" else (("xfs_growfs", mounted_at),)
    if kind == "ext4":
        return (("e2fsck", "-f", "-p", node), ("resize2fs", node))
    return (grow_in_private_mount_command(node, kind),)


def grow_in_private_mount_command(node: str, kind: str) -> Command:
    """In a mount namespace that ends with the command. The script is fixed, the node its argument: nothing is pasted in."""
    script = _IN_PRIVATE_MOUNT.format(kind=kind, options=_MOUNT_OPTIONS[kind], grow=_GROW_MOUNTED[kind])
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "grow", node)


def thin_check_command(metadata: str) -> Command:
    """It still looks for all, and says it; blocks that have leaked, as in a power cut, are no failure then."""
    return ("thin_check", "--ignore-non-fatal-errors", metadata)


def thin_ls_command(metadata: str, *, live: bool) -> Command:
    """Fields that stand in the devices' details. EXCLUSIVE and SHARED would walk all mappings."""
    snapshot = ("--metadata-snap",) if live else ()
    return ("thin_ls", "--no-headers", "--format", "DEV,MAPPED_BLOCKS,TRANSACTION", *snapshot, metadata)

"""Command lines that a person would type, and that more than one place needs. Pure: it starts nothing and reads
nothing.

A command line that only one step shows is in the entry of that step in the table of steps.

`programs.py` runs these same commands where it needs a program, so that what `plan` shows cannot differ from what is
done. Calls of the DeviceMapper protocol are shown as the dmsetup command that does the same, which is never run.
dmsetup cannot express that a resume asks udev to leave the device alone.
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
    """The load as a command. --table takes one line only; several lines go through standard input."""
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
    """The message as a command, sent to sector 0, which is the first target."""
    return _line("message", name, "0", text)


def dmsetup_mknodes(name: str) -> str:
    return _line("mknodes", name)


def _line(*words: str) -> str:
    return shlex.join(["dmsetup", *words])


Command = tuple[str, ...]

_MOUNT_OPTIONS: Final = {"ext4": "nosuid,nodev,noexec", "xfs": "nosuid,nodev,noexec,nouuid"}
"""`nouuid`, because xfs refuses to be mounted beside its origin, which has the same UUID."""
_GROW_MOUNTED: Final = {"ext4": 'resize2fs "$1"', "xfs": 'xfs_growfs "$place"'}
_IN_PRIVATE_MOUNT: Final = (
    "place=$(mktemp -d) || exit; status=1; "
    'if mount -t {kind} -o {options} "$1" "$place"; then {grow}; status=$?; umount "$place" || status=$?; fi; '
    'rmdir "$place"; exit "$status"'
)


def shell_line(*commands: Command) -> str:
    """The commands as one line for people to copy: quoted, and each run only if the one before it succeeded."""
    return " && ".join(shlex.join(command) for command in commands)


def mkfs_command(node: str, wanted: Mkfs) -> Command:
    label = ("-L", wanted.label) if wanted.label else ()
    if wanted.type == "xfs":
        keep = () if wanted.discard else ("-K",)
        return ("mkfs.xfs", "-q", *keep, *label, "-b", f"size={wanted.block_size}", node)
    # The kernel zeroes the inode tables later: doing it here would take time that grows with the device.
    options = f"lazy_itable_init=1,{'discard' if wanted.discard else 'nodiscard'}"
    return (f"mkfs.{wanted.type}", "-q", "-E", options, *label, "-b", str(wanted.block_size), node)


def grow_filesystem_command(node: str, kind: str, mounted_at: str | None) -> tuple[Command, ...]:
    """Grows a filesystem: online if it is mounted, else after a check (ext4) or in a private mount (xfs)."""
    if mounted_at is not None:
        return (("resize2fs", node),) if kind == "ext4" else (("xfs_growfs", mounted_at),)
    if kind == "ext4":
        return (("e2fsck", "-f", "-p", node), ("resize2fs", node))
    return (grow_in_private_mount_command(node, kind),)


def grow_in_private_mount_command(node: str, kind: str) -> Command:
    """Grows in a mount namespace that ends with the command. The script is fixed and the node is its argument, so that
    nothing has to be quoted.
    """
    script = _IN_PRIVATE_MOUNT.format(kind=kind, options=_MOUNT_OPTIONS[kind], grow=_GROW_MOUNTED[kind])
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "grow", node)


def thin_check_command(metadata: str) -> Command:
    """Checks metadata. Everything is checked and reported, but leaked blocks (from a power cut) do not fail it."""
    return ("thin_check", "--ignore-non-fatal-errors", metadata)


def thin_ls_command(metadata: str, *, live: bool) -> Command:
    """Lists thins, with fields from the device details: EXCLUSIVE and SHARED would make thin_ls walk all mappings."""
    snapshot = ("--metadata-snap",) if live else ()
    return ("thin_ls", "--no-headers", "--format", "DEV,MAPPED_BLOCKS,TRANSACTION", *snapshot, metadata)

"""Each call of the DeviceMapper protocol as the dmsetup command line that does the same, to read and to paste in a shell.

Pure. Never run by the reconciler. What dmsetup cannot say: that a resume asks udev to leave the device alone.
"""

from __future__ import annotations

import shlex

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


def dmsetup_rename(name: str, new_name: str) -> str:
    return _line("rename", name, new_name)


def dmsetup_clear(name: str) -> str:
    return _line("clear", name)


def dmsetup_message(name: str, text: str) -> str:
    """To sector 0: the first target."""
    return _line("message", name, "0", text)


def dmsetup_mknodes(name: str) -> str:
    return _line("mknodes", name)


def _line(*words: str) -> str:
    return shlex.join(["dmsetup", *words])

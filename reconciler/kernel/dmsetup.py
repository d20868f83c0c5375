"""Each call of the DeviceMapper protocol as the dmsetup command line that does the same, to read and to paste in a shell.

Pure. Never run by the reconciler. What dmsetup cannot say: that a resume asks udev to leave the device alone.
"""

from __future__ import annotations

import shlex

from reconciler.model.table import Table

_INFO_COLUMNS = "name,uuid,major,minor,open,events,suspended,tables_loaded,readonly"


def versions() -> str:
    return _line("version")


def targets() -> str:
    return _line("targets")


def list_all() -> str:
    return _line("info", "-c", "--noheadings", "-o", "name,major,minor,events")


def info(name: str) -> str:
    return _line("info", "-c", "--noheadings", "-o", _INFO_COLUMNS, name)


def deps(name: str) -> str:
    return _line("deps", name)


def table(name: str, *, inactive: bool = False) -> str:
    return _line("table", *(["--inactive"] if inactive else []), name)


def status(name: str) -> str:
    return _line("status", "--noflush", name)


def create(name: str, uuid: str) -> str:
    return _line("create", name, *(["--uuid", uuid] if uuid else []), "--notable")


def load(name: str, wanted: Table, *, read_only: bool = False) -> str:
    """--table takes one line; several go through standard input."""
    words = ["load", name, *(["--readonly"] if read_only else [])]
    lines = [str(target) for target in wanted]
    if len(lines) == 1:
        return _line(*words, "--table", lines[0])
    return f"printf '%s\\n' {shlex.join(lines)} | {_line(*words)}"


def resume(name: str) -> str:
    return _line("resume", name)


def resume_unfrozen(name: str) -> str:
    return _line("resume", "--noflush", "--nolockfs", name)


def suspend(name: str) -> str:
    return _line("suspend", name)


def remove(name: str) -> str:
    return _line("remove", name)


def rename(name: str, new_name: str) -> str:
    return _line("rename", name, new_name)


def clear(name: str) -> str:
    return _line("clear", name)


def message(name: str, text: str) -> str:
    """To sector 0: the first target."""
    return _line("message", name, "0", text)


def mknodes(name: str) -> str:
    return _line("mknodes", name)


def _line(*words: str) -> str:
    return shlex.join(["dmsetup", *words])

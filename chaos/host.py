"""Commands on this host, none of which may take the whole run with it: one that hangs in the kernel is left behind."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

PATIENCE: Final = 15.0
"""Seconds for a command: the sandbox is slow, and the machine may be busy."""
Found = TypeVar("Found")
_left_behind: Final[list[tuple[str, subprocess.Popen[bytes]]]] = []


def is_thrown_away() -> bool:
    """Whether this kernel is one that is thrown away afterwards: the sandbox, or a machine that virtme-ng booted."""
    if "User Mode Linux" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return True
    return "virtme_hostname=" in Path("/proc/cmdline").read_text(encoding="utf-8")


class NotSo(Exception):  # noqa: N818 - what was to be is not so
    """Something that had to be true is not."""


class Failed(Exception):  # noqa: N818 - a command failed, which is no error of this program
    """A command did not do what it was to do; its text is what it said."""


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    text: str


def attempt(*words: str | Path, within: float = PATIENCE, data: bytes = b"") -> Said:
    """Run it; raises Failed only if it has not ended in time. It is killed then, which it may not notice for long."""
    line = [str(word) for word in words]
    # Files, not pipes: nobody can read to the end of a pipe that a hanging process holds.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
        given.write(data)
        given.seek(0)
        process = subprocess.Popen(line, stdin=given, stdout=printed, stderr=subprocess.STDOUT)
        try:
            code = process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            _left_behind.append((" ".join(line), process))
            raise Failed(f"`{' '.join(line)}` has not ended within {within:g} s") from None
        printed.seek(0)
        return Said(code, printed.read().decode(errors="replace").strip())


def run(*words: str | Path, within: float = PATIENCE, data: bytes = b"") -> str:
    """What it printed. Raises Failed if it fails."""
    said = attempt(*words, within=within, data=data)
    if said.code:
        line = " ".join(str(word) for word in words)
        raise Failed(f"`{line}` ended with {said.code}: {said.text[-800:]}")
    return said.text


def dmsetup(*words: str, within: float = PATIENCE) -> str:
    """Without waiting for udev: its queue may be stopped."""
    return run("dmsetup", "--noudevsync", *words, within=within)


def swap(name: str, table: str) -> None:
    """Another table, at once and without flushing what is below: it may not be there any more."""
    dmsetup("load", name, "--table", table)
    dmsetup("suspend", "--noflush", "--nolockfs", name)
    dmsetup("resume", "--noflush", name)


def node(name: str) -> Path:
    return Path("/dev/mapper", name)


def is_there(name: str) -> bool:
    return attempt("dmsetup", "info", name).code == 0


def table(name: str) -> str:
    """Of a live device; empty where there is none."""
    said = attempt("dmsetup", "table", name)
    return said.text if said.code == 0 and said.text[:1].isdigit() else ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A dm device, as anybody sees it."""

    devno: str
    uuid: str
    suspended: bool
    tables: str
    """`Live`, `Inactive`, `Both` or `None`."""
    read_only: bool
    table: str


def look() -> dict[str, Seen]:
    """All dm devices, by name: with two commands, as starting one takes its time."""
    columns = "name,major,minor,uuid,suspended,tables_loaded,read_only"
    tables = dict(line.split(": ", 1) for line in run("dmsetup", "table").splitlines() if ": " in line)
    seen = {}
    for line in run("dmsetup", "info", "-c", "--noheadings", "--separator", "|", "-o", columns).splitlines():
        name, major, minor, uuid, suspended, loaded, read_only = line.split("|")
        devno, is_suspended = f"{major}:{minor}", suspended == "Suspended"
        seen[name] = Seen(devno, uuid, is_suspended, loaded, read_only == "Read-only", tables.get(name, "").strip())
    return seen


def attach(file: Path) -> str:
    return run("losetup", "--find", "--show", file)


def is_really(name: str, number: int) -> bool:
    """Whether that device number is the dm device of that name: a node may be a stale one, and lead to another."""
    try:
        found = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/dm/name").read_text(encoding="ascii")
    except OSError:
        return False
    return found.strip() == name


def still_left_behind() -> list[str]:
    """Commands that have hung, and have not ended since."""
    return [line for line, process in _left_behind if process.poll() is None]


def until(ask: Callable[[], Found], what: str, within: float) -> Found:
    """The first true answer. Raises NotSo."""
    end = time.monotonic() + within
    while not (answer := ask()):
        if time.monotonic() > end:
            raise NotSo(f"not so within {within:.0f} s: {what}")
        time.sleep(0.1)
    return answer

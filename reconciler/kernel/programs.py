"""Starting a program: no shell, no input, one language, what it says kept within bounds."""

from __future__ import annotations

import errno
import os
import selectors
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Final

from reconciler.model.errors import HostFault

_PACKAGES: Final = {
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "thin_check": "thin-provisioning-tools",
    "thin_ls": "thin-provisioning-tools",
    "unshare": "util-linux",
}
"""Where Debian and Ubuntu have them."""
_ALSO_IN: Final = "/usr/sbin:/sbin"
"""Administrators' programs, which not every PATH names."""
_KEPT_OF_ENVIRONMENT: Final = ("GLIBC_TUNABLES",)
"""What a host needs for its programs to run at all (the sandbox does, on some processors). It names no file to load."""
_MOST_OUTPUT: Final = 256 * 1024 * 1024
"""Bytes: a line for each of the 2**24 ids that a pool can have stays below."""
_KEPT_OF_ERRORS: Final = 16 * 1024
"""Bytes from the end, where programs say why they gave up."""
_PIECE: Final = 65536


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended and what it said."""

    status: int
    output: str
    errors: str

    @property
    def last_line(self) -> str:
        """The reason, as a rule: of its errors, else of its output. What follows `Usage:` (mkfs.xfs) does not count."""
        last = ""
        for line in (self.errors.strip() or self.output.strip()).splitlines():
            if line.lower().startswith("usage:"):
                break
            last = line.strip() or last
        return last


def run(command: Collection[str], subject: str, *, fine: Collection[int] = (0,)) -> Said:
    """Run `command` on `subject`, a device or file, and wait for it.

    Raises HostFault: ENOENT where the program is not installed; without errno, with its last line, where it ends with
    a status that is not `fine`; E2BIG where it says more than could be right.
    """
    program = PurePath(next(iter(command))).name
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=_environment(),
        )
    except FileNotFoundError as error:
        raise HostFault(program, subject, errno.ENOENT, _missing(program)) from error
    except OSError as error:
        raise HostFault(program, subject, error.errno or 0, error.strerror or "") from error
    said = _listen(process, program, subject)
    if said.status not in fine:
        raise HostFault(program, subject, 0, said.last_line or f"ended with status {said.status}")
    return said


def search_path() -> str:
    """Where programs are looked for: the PATH of who started this, but for places that depend on where that was."""
    given = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    return ":".join([*(folder for folder in given if folder.startswith("/")), _ALSO_IN])


def _environment() -> dict[str, str]:
    """Nothing of ours: LD_PRELOAD, MKE2FS_CONFIG, TMPDIR and their like would tell programs what to load and write."""
    kept = {name: os.environ[name] for name in _KEPT_OF_ENVIRONMENT if name in os.environ}
    return {**kept, "LC_ALL": "C", "PATH": search_path()}


def _missing(program: str) -> str:
    package = _PACKAGES.get(program)
    hint = f": apt-get install {package}" if package else ""
    return f"{program} is not installed{hint}"


def _listen(process: subprocess.Popen[bytes], program: str, subject: str) -> Said:
    """Both pipes at once: a program that fills one while the other is read would wait for ever."""
    output, errors = bytearray(), bytearray()
    with process, selectors.DefaultSelector() as selector:
        for pipe, kept in ((process.stdout, output), (process.stderr, errors)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, kept)
        try:
            while selector.get_map():
                for key, _ in selector.select():
                    _take(selector, key)
                del errors[:-_KEPT_OF_ERRORS]
                _refuse_flood(output, program, subject)
        except BaseException:
            process.kill()  # `with process` waits for its end
            raise
    return Said(process.returncode, _text(output), _text(errors))


def _refuse_flood(output: bytearray, program: str, subject: str) -> None:
    if len(output) > _MOST_OUTPUT:
        raise HostFault(program, subject, errno.E2BIG, "it says more than could be right")


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]  # only pipes are registered
    piece = os.read(pipe.fileno(), _PIECE)
    if not piece:
        selector.unregister(pipe)
    kept: bytearray = key.data
    kept += piece


def _text(said: bytearray) -> str:
    return said.decode(errors="replace")

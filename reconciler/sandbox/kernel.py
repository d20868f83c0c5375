"""The user-mode kernel on this host: finds it, places its memory, and starts it under its warden, with the pipes that
lead to it.

Some hosts have an extended register state that is larger than the kernel's buffer for it. User-mode Linux 6.1 reads the
floating-point registers of its processes with ptrace's NT_X86_XSTATE into a buffer of fixed size. With AMX the state is
larger, and writing the cut-off state back fails: the kernel panics at its first process ("ptrace set fp regs failed,
errno = 14"). There are two ways out. The shim is a preloaded ptrace() that completes the state before it is written
(xstate_shim.c), and needs a C compiler. The seccomp filter refuses that register set, so that the kernel uses the older
one (FXSAVE). Then every page fault loses the AVX registers, so nothing inside may use them; programs that ignore the
tunables below go wrong.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.sandbox import SandboxError, inside, warden

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.sandbox.settings import Settings


PROGRAM: Final = "linux.uml"
_UDEV: Final = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd")
_NOWHERE: Final = "; install it with `apt-get install user-mode-linux udev dmsetup` (Debian, amd64), or use a machine with device-mapper"


def find_kernel() -> str:
    """The path of the kernel. Raises SandboxError."""
    machine = platform.machine()
    if machine != "x86_64":
        raise SandboxError(f"the sandbox's kernel exists for x86-64 only, this is {machine}: use an x86-64 machine")
    found = shutil.which(PROGRAM)
    if not found:
        raise SandboxError(f"{PROGRAM} not found{_NOWHERE}")
    return found


def find_udev() -> str:
    """The path of systemd-udevd. Raises SandboxError."""
    for path in _UDEV:
        if os.access(path, os.X_OK):
            return path
    raise SandboxError("systemd-udevd not found; install it with `apt-get install udev`, or run without udev")


def memory_directory(size: int) -> Path:
    """The directory for the file that is the kernel's memory: the first with enough space where code may run. Raises
    SandboxError.

    The kernel runs its code from that file, so a noexec mount (as /dev/shm is in containers) cannot be used.
    """
    seen = []
    for path in dict.fromkeys((Path("/dev/shm"), Path(tempfile.gettempdir()))):  # noqa: S108 - a private directory in it
        if not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
            seen.append(f"{path}: cannot be written")
            continue
        if any(character.isspace() or character in "\"',:" for character in str(path)):
            seen.append(f"{path}: has characters in its name that mean something on a kernel's command line")
            continue
        room = os.statvfs(path)
        if room.f_flag & os.ST_NOEXEC:
            seen.append(f"{path}: mounted noexec")
        elif room.f_bavail * room.f_frsize < size:
            seen.append(f"{path}: {room.f_bavail * room.f_frsize >> 20} MiB free")
        else:
            return path
    raise SandboxError(
        f"no place for {size >> 20} MiB of memory ({'; '.join(seen)}): set TMPDIR to one with room, or give less memory",
    )


class Wires(NamedTuple):
    """The descriptors that the kernel keeps open."""

    line_in: int
    line_out: int
    console: int


def command_line(
    kernel: str, run: Path, memory: int, disks: int, wires: Wires, environment: Mapping[str, str]
) -> list[str]:
    """The command line of the kernel. `environment` is that of the first process inside.

    Disks are symbolic links disk0, disk1, ... in `run`, because the driver splits names at ',' and ':'. 'd' keeps it
    from taking the content of a disk for a copy-on-write header. Unknown NAME=value words become the first process's
    environment. raid6_select_algo would measure for 0.85 s, a third of the boot, which algorithm is fastest; without it
    there is no RAID 6.
    """
    return [
        kernel,
        f"mem={memory >> 10}K",
        f"uml_dir={run}",
        "rootfstype=hostfs",
        "ro",
        "quiet",
        "loglevel=3",
        "noreboot",
        "panic=-1",
        "initcall_blacklist=raid6_select_algo",
        "con=null",
        f"con0=null,fd:{wires.console}",
        "ssl=null",
        f"ssl0=fd:{wires.line_in},fd:{wires.line_out}",
        *(f"ubd{number}d={run}/disk{number}" for number in range(disks)),
        *(f"{name}={value}" for name, value in environment.items()),
        f"init={_quoted(os.path.realpath(sys.executable))}",
        "--",
        "-IS",
        _quoted(str(Path(inside.__file__).resolve().parent / "init.py")),
    ]


def _quoted(text: str) -> str:
    """Quotes text for the kernel's own parser, which has no escape for the quote itself."""
    if '"' in text:
        raise SandboxError(f"the path {text} has a quote in it, which no kernel command line can: move it")
    return f'"{text}"' if any(character.isspace() for character in text) else text


XSTATE_SWITCH: Final = "DM_RECONCILER_SANDBOX_XSAVE"
XSTATE_SOURCE: Final = Path(__file__).with_name("xstate_shim.c")
_TUNABLES: Final = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-BMI2,-MOVBE,-RTM",
    "GODEBUG": "cpu.avx=off,cpu.avx2=off",
}


@dataclass(frozen=True, slots=True)
class XstateWorkaround:
    preload: str = ""  # for the kernel's process
    seccomp: str = ""  # a filter program for the kernel's process, in hexadecimal
    environment: dict[str, str] = field(default_factory=dict)  # for all processes inside


def xstate_workaround(run: Path) -> XstateWorkaround:
    """The workaround that this host needs, or that SWITCH names. A shim is built in `run`. Raises SandboxError."""
    mode = os.environ.get(XSTATE_SWITCH) or ("auto" if _has_amx() else "none")
    if mode == "none":
        return XstateWorkaround()
    if mode in ("auto", "shim"):
        shim, problem = build_shim(run)
        if shim:
            return XstateWorkaround(preload=str(shim))
        if mode == "shim":
            raise SandboxError(f"cannot build the ptrace shim: {problem}; install gcc, or set {XSTATE_SWITCH}=seccomp")
    elif mode != "seccomp":
        raise SandboxError(f"{XSTATE_SWITCH}={mode} is unknown: set it to shim, seccomp or none, or not at all")
    return XstateWorkaround(seccomp=refuse_xstate().hex(), environment=dict(_TUNABLES))


def build_shim(run: Path) -> tuple[Path | None, str]:
    """Builds the shim. Returns the shared object, or None and why there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return None, "there is no C compiler"
    target = run / "xstate_shim.so"
    done = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(target), str(XSTATE_SOURCE)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"{compiler} failed"])[-1]
    return target, ""


def refuse_xstate() -> bytes:
    """A classic BPF program: ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE) fails with EINVAL, all else is allowed."""
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    number_at, request_at, set_at = 0, 16, 32  # offsets in struct seccomp_data, of the low halves of the arguments
    ptrace, getregset, nt_x86_xstate = 101, 0x4204, 0x202
    allow, fail = 0x7FFF0000, 0x00050000 | 22
    program = [
        (load, 0, 0, number_at),
        (jump_if_equal, 0, 5, ptrace),
        (load, 0, 0, request_at),
        (jump_if_equal, 0, 3, getregset),
        (load, 0, 0, set_at),
        (jump_if_equal, 0, 1, nt_x86_xstate),
        (answer, 0, 0, fail),
        (answer, 0, 0, allow),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _has_amx() -> bool:
    try:
        return " amx_tile" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


@dataclass(slots=True)
class Kernel:
    """The pipes of a running kernel, and the warden that ends it."""

    to_inside: int
    from_inside: int
    console: int
    warden: subprocess.Popen[bytes]
    warden_fd: int  # readable once the warden has ended
    run: Path
    environment: dict[str, str]  # what every process inside needs

    def kill(self) -> None:
        """Kills the kernel at once, as a power cut would. None of its processes and files are left afterwards."""
        if self.warden.stdin and not self.warden.stdin.closed:
            self.warden.stdin.close()
        if self.warden.wait() != 0:  # the warden was killed, and could not clean up
            warden.kill_session(self.warden.pid)
            shutil.rmtree(self.run, ignore_errors=True)
        for fd in (self.to_inside, self.from_inside, self.console, self.warden_fd):
            os.close(fd)


def launch(settings: Settings) -> Kernel:
    """Starts the kernel, which boots when this returns. Raises SandboxError."""
    program = find_kernel()
    run = Path(tempfile.mkdtemp(prefix="dm-reconciler-sandbox-", dir=memory_directory(settings.memory)))
    opened: list[int] = []
    try:
        for _ in range(3):
            opened.extend(os.pipe())
        inside_reads, to_inside, from_inside, inside_writes, console, console_writes = opened
        wires = Wires(inside_reads, inside_writes, console_writes)
        help_needed = xstate_workaround(run)
        process = _start(_specification(program, run, settings, wires, help_needed), wires)
    except BaseException:
        for fd in opened:
            os.close(fd)
        shutil.rmtree(run, ignore_errors=True)
        raise
    for fd in wires:
        os.close(fd)
    os.set_blocking(console, False)
    warden_fd = os.pidfd_open(process.pid)
    return Kernel(to_inside, from_inside, console, process, warden_fd, run, help_needed.environment)


def _specification(
    program: str, run: Path, settings: Settings, wires: Wires, workaround: XstateWorkaround
) -> warden.Specification:
    for number, disk in enumerate(settings.disks):
        (run / f"disk{number}").symlink_to(disk)
    environment = {"TMPDIR": str(run), "HOME": str(run), "PATH": os.environ.get("PATH", os.defpath)}
    if workaround.preload:
        environment["LD_PRELOAD"] = workaround.preload
    return {
        "arguments": command_line(program, run, settings.memory, len(settings.disks), wires, workaround.environment),
        "environment": environment,
        "run": str(run),
        "descriptors": list(wires),
        "console": wires.console,
        "seccomp": workaround.seccomp,
        # The kernel has one processor. Each system call inside is a switch between two processes of the host, which
        # takes twice as long if they run on different processors.
        "cpu": random.choice(sorted(os.sched_getaffinity(0))),  # noqa: S311 - not a secret
    }


def _start(specification: warden.Specification, wires: Wires) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-IS", warden.__file__, json.dumps(specification)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=wires.console,
        pass_fds=wires,
        start_new_session=True,
    )

"""Hosts whose extended register state is larger than the kernel's buffer for it.

User-mode Linux 6.1 reads the floating-point registers of its processes with ptrace's NT_X86_XSTATE into a buffer of
fixed size. With AMX the state is larger, and writing the cut-off state back fails: the kernel panics at its first
process ("ptrace set fp regs failed, errno = 14"). Two ways out:

shim: a preloaded ptrace() that completes the state before it is written (xstate_shim.c). Needs a C compiler.
seccomp: a filter that refuses that register set, so that the kernel takes the older one (FXSAVE). Then every page fault
  loses the AVX registers, so nothing inside may use them; programs that do not heed the tunables below go wrong.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reconciler.sandbox.errors import SandboxError

XSTATE_SWITCH: Final = "DM_RECONCILER_SANDBOX_XSAVE"
XSTATE_SOURCE: Final = Path(__file__).with_name("xstate_shim.c")
_TUNABLES: Final = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-BMI2,-MOVBE,-RTM",
    "GODEBUG": "cpu.avx=off,cpu.avx2=off",
}


@dataclass(frozen=True, slots=True)
class XstateWorkaround:
    preload: str = ""  # for the kernel's process
    seccomp: str = ""  # a filter program for it, in hexadecimal
    environment: dict[str, str] = field(default_factory=dict)  # for everything inside


def xstate_workaround(run: Path) -> XstateWorkaround:
    """What this host needs, or what SWITCH says. run: where a shim is built. Raises SandboxError."""
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
    """The shared object, or None and why there is none."""
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
    number_at, request_at, set_at = 0, 16, 32  # in struct seccomp_data, low halves of the arguments
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

"""System packages: which are missing, what each is for, and how to get them. Names are Debian's."""

from __future__ import annotations

import glob
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# An ordinary user's PATH leaves these out on Debian, and most of the programs are there.
SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
SYSTEMD: Final = Path("/run/systemd/system")
"""There where systemd is at work (sd_booted(3))."""
LISTS: Final = "/var/lib/apt/lists/*_Packages*"


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    files: tuple[str, ...]
    """Programs on PATH, or patterns of paths; it is there if all of them are found."""
    why: str
    sandbox: bool = False
    """Only the sandbox needs it."""
    service: str = ""
    """Debian starts it once it is installed, and at every boot; here only its programs are wanted."""


PACKAGES: Final = (
    Package("user-mode-linux", ("linux.uml",), "the kernel that the sandbox boots", sandbox=True),
    Package("udev", ("/lib/systemd/systemd-udevd",), "nodes under /dev"),
    Package("dmsetup", ("dmsetup",), "to look at the kernel beside the reconciler"),
    Package("libdevmapper1.02.1", ("/lib/*/libdevmapper.so.1.02.1",), "how the reconciler talks to device-mapper"),
    Package("thin-provisioning-tools", ("thin_check", "thin_ls"), "to check a pool before it is activated"),
    Package("e2fsprogs", ("mkfs.ext4", "resize2fs"), "ext4"),
    Package("xfsprogs", ("mkfs.xfs", "xfs_growfs"), "xfs"),
    Package("util-linux", ("losetup", "blkid", "unshare", "flock"), "loop devices"),
    Package("mount", ("mount", "umount"), "to mount file systems"),
    Package("kmod", ("modprobe",), "kernel modules"),
    Package("lvm2", ("pvcreate",), "tests: LVM's disks are left alone"),
    Package("chromium", ("chromium",), "tests: the status page in a real browser"),
    Package("libatomic1", ("/lib/*/libatomic.so.1",), "tests: what drives that browser is linked to it"),
    Package("fdisk", ("fdisk",), "demo: it is what hangs on a suspended device"),
    Package(
        "prometheus",
        ("prometheus", "promtool"),
        "tests: metrics and alert rules, as Prometheus sees them",
        service="prometheus.service",
    ),
)
COMPILER: Final = (
    Package("gcc", ("cc",), "the sandbox on a processor with AMX needs a shim compiled", sandbox=True),
    Package("libc6-dev", ("/usr/include/stdint.h",), "the headers for that", sandbox=True),
)
VENV: Final = Package("python3-venv", (), "to make .venv")


def missing() -> list[Package]:
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
    wanted = [*PACKAGES, *COMPILER] if _has_amx() else list(PACKAGES)
    if platform.machine() != "x86_64":
        wanted = [package for package in wanted if not package.sandbox]
    absent = [package for package in wanted if not all(map(_is_there, package.files))]
    if importlib.util.find_spec("ensurepip") is None:
        absent.append(VENV)
    return absent


def install(packages: Iterable[Package]) -> bool:
    """With apt-get, as root or through sudo. Says what and why, and returns whether it was possible."""
    packages = tuple(packages)
    names = [package.name for package in packages]
    say("system packages that are missing here:")
    for package in packages:
        print(f"  {package.name:<26}{package.why}", flush=True)
    command = f"apt-get install {' '.join(names)}"
    if not shutil.which("apt-get"):
        say(f"this is no Debian, install what they are called here (there: `{command}`)")
        return False
    become_root = _become_root()
    if become_root is None:
        say(f"neither root nor sudo: ask somebody who is root for `{command}`")
        return False
    say(f"installing them: {' '.join([*become_root, command])}")
    if not glob.glob(LISTS) and not _apt(become_root, "update", "-qq"):
        return False
    arguments = ("install", "-qq", "--yes", "--no-install-recommends", *names)
    with _not_started(become_root, [package.service for package in packages if package.service]):
        # Lists may be older than the archive: what they name is gone from it then.
        return _apt(become_root, *arguments) or (_apt(become_root, "update", "-qq") and _apt(become_root, *arguments))


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


def _is_there(file: str) -> bool:
    return bool(glob.glob(file) or glob.glob(f"/usr{file}")) if file.startswith("/") else bool(shutil.which(file))


def _has_amx() -> bool:
    try:
        return " amx_tile" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def _become_root() -> list[str] | None:
    """What to put before a command; None where there is no way."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    # Nobody can be asked for a password where there is no terminal.
    return ["sudo"] if sys.stdin.isatty() else ["sudo", "--non-interactive"]


@contextmanager
def _not_started(become_root: list[str], services: list[str]) -> Iterator[None]:
    """What is installed meanwhile does not start, now or at the next boot; somebody may still start it by hand."""
    if not services or not SYSTEMD.exists():
        yield
        return
    systemctl = [*become_root, "systemctl", "--quiet"]
    subprocess.run([*systemctl, "mask", "--runtime", *services], check=True)
    try:
        yield
    finally:
        subprocess.run([*systemctl, "unmask", "--runtime", *services], check=True)
    subprocess.run([*systemctl, "disable", *services], check=False)  # it is not there where apt-get did not work


def _apt(become_root: list[str], *arguments: str) -> bool:
    # Not through the environment: sudo would drop it.
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
    options = ["-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"]
    output = None if arguments[0] == "update" else subprocess.PIPE
    done = subprocess.run(
        [*become_root, *quiet, "apt-get", *options, *arguments],
        check=False,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        say(f"apt-get {arguments[0]} did not work")
        sys.stdout.write(done.stdout or "")
    return done.returncode == 0

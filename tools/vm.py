"""A full machine with two processors, on which the tests on a real kernel run too: qemu, and a kernel as Debian packages it.

virtme-ng boots it on the files of this host, of which none is changed: what is written there goes into memory. With KVM it
is as fast as the host, without some ten times slower. Needs root, as the kernel's modules are found by a link in
/lib/modules; the package is unpacked under ~/.cache and not installed, so that this host boots as before.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.packages import say

PROCESSORS: Final = 2
MEMORY: Final = "3G"
CACHE: Final = Path("~/.cache/dm-reconciler/vm").expanduser()
MODULES: Final = Path("/lib/modules")
VIRTME: Final = "virtme-ng>=1.40,<2"
PROGRAMS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "depmod": "kmod",
}
"""What a machine is made with, and Debian's packages of it."""
_MODULES: Final = ("loop", "dm-thin-pool", "dm-flakey", "dm-delay", "ext4", "xfs")
_PROBE_SECONDS: Final = 60.0
"""With KVM a kernel is up within three seconds; there are hosts on which it never is, though there is a /dev/kvm."""


class NoMachineError(Exception):
    """Why none can be had here, with what to do."""


@functools.cache
def machine(tree: Path) -> Machine:
    """Raises NoMachineError."""
    if os.geteuid() != 0:
        raise NoMachineError("KERNEL=vm needs root: `sudo make test-kernel KERNEL=vm`")
    absent = sorted(package for program, package in PROGRAMS.items() if not shutil.which(program))
    if absent:
        raise NoMachineError(f"KERNEL=vm needs packages that are not here: `apt-get install {' '.join(absent)}`")
    vng = _virtme()
    image = _kernel()
    this = Machine(vng, image, tree, has_kvm=False)
    return Machine(vng, image, tree, has_kvm=Path("/dev/kvm").exists() and this.boots_with_kvm())


def obstacle_to_a_machine(tree: Path) -> str:
    """Why none can be had, with what to do; empty where one can."""
    try:
        machine(tree)
    except NoMachineError as error:
        return str(error)
    return ""


class Machine:
    """One that is booted anew for each command."""

    def __init__(self, vng: Path, image: Path, tree: Path, *, has_kvm: bool) -> None:
        self.image = image
        self.has_kvm = has_kvm
        self._vng = vng
        self._tree = tree

    def __str__(self) -> str:
        how = "with KVM" if self.has_kvm else "emulated, as KVM does not work here"
        return f"{self.image.name.removeprefix('vmlinuz-')}, {PROCESSORS} processors, {how}"

    def command(self, *words: str) -> tuple[str, ...]:
        """What runs this in a machine, in the tree, and ends as it does."""
        return self._boot(f"cd {shlex.quote(str(self._tree))} && {shlex.join(words)}", kvm=self.has_kvm)

    def boots_with_kvm(self) -> bool:
        try:
            done = subprocess.run(
                self._boot("true", kvm=True),
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=_PROBE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _boot(self, script: str, *, kvm: bool) -> tuple[str, ...]:
        prepared = f"modprobe -a {' '.join(_MODULES)}; ip link set lo up; udevadm settle; {script}"
        options = () if kvm else ("--disable-kvm", "--disable-microvm")
        # qemu is ended with whoever waits for it, whatever it is doing.
        apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        vng = (str(self._vng), "--run", str(self.image), *options, "--cpus", str(PROCESSORS), "--memory", MEMORY)
        path = f"PATH={self._vng.parent}:{os.environ.get('PATH', os.defpath)}"
        return ("env", path, *apart, *vng, "--user", "root", "--", prepared)


def _virtme() -> Path:
    """It is no dependency of the other targets, so it is installed when it is first wanted."""
    vng = Path(sys.executable).with_name("vng")
    if vng.exists():
        return vng
    say(f"installing {VIRTME} into .venv")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", VIRTME)
    if subprocess.run(pip, check=False).returncode:
        raise NoMachineError(f"`pip install '{VIRTME}'` did not work: see above")
    return vng


def _kernel() -> Path:
    """Of Debian's default package for this release, unpacked, with its modules where modprobe finds them."""
    package = package_of(_said("apt-cache", "depends", "linux-image-amd64"))
    if not package:
        raise NoMachineError("apt-cache knows no linux-image-amd64 here: `apt-get update`, on Debian's amd64")
    release = package.removeprefix("linux-image-")
    image = CACHE / release / "boot" / f"vmlinuz-{release}"
    if not image.exists():
        _unpack(package, CACHE / release)
    modules, link = CACHE / release / "lib/modules" / release, MODULES / release
    if not link.exists():
        MODULES.mkdir(exist_ok=True)
        link.symlink_to(modules)
    if not (link / "modules.dep").exists():
        subprocess.run(("depmod", release), check=True)
    return image


def package_of(depends: str) -> str:
    """Of `apt-cache depends linux-image-amd64`, the package with the kernel in it; empty if it names none."""
    found = re.search(r"^\s*Depends: (linux-image-\S+)$", depends, re.MULTILINE)
    return found[1] if found else ""


def _unpack(package: str, folder: Path) -> None:
    say(f"unpacking {package} in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(("apt-get", "download", "--quiet", package), cwd=folder, check=False).returncode:
        raise NoMachineError(f"`apt-get download {package}` did not work: see above; `apt-get update` may help")
    for file in folder.glob("*.deb"):
        subprocess.run(("dpkg", "--extract", str(file), str(folder)), check=True)
        file.unlink()


def _said(*words: str) -> str:
    return subprocess.run(words, check=False, capture_output=True, text=True).stdout

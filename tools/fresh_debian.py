"""`make test-debian RELEASE=trixie`: `make test` in a Debian that was installed for it, in a folder, and is removed after.

What is committed is tried, with no package and no setting of this host but those by which apt and pip reach theirs. Needs
root, mmdebstrap (`apt-get install mmdebstrap`), some 4 GiB in /var/tmp, and half an hour. The sandbox inside has that Debian's
user-mode kernel, tools and Python; the processes run on this host's kernel, and see its /dev and /sys.

Everything runs, and is mounted, in namespaces that end with it. The folder is removed outside of them, where nothing is
mounted in it, and once nobody is left who could write to it: also after Ctrl-C, SIGTERM and SIGHUP.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools.packages import say

TREE: Final = Path(__file__).resolve().parent.parent
MIRROR: Final = "http://deb.debian.org/debian"
INCLUDED: Final = "python3,python3-venv,make,git,ca-certificates"
"""What somebody has who got as far as cloning the project; `make setup` installs the rest."""
COPIED: Final = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf", "/etc/hosts")
APT_SETTINGS: Final = ("Acquire::http", "Acquire::https", "Acquire::Check-Date", "Acquire::Check-Valid-Until")
PLACE: Final = "root/dm-reconciler"
NAMESPACES: Final = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
"""So that nothing stays mounted and nobody is left behind; nor if this program is killed."""
INSIDE: Final = """
mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" || exit 1
folder=$0; place=$1; shift
exec chroot "$folder" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \\
    PIP_DEFAULT_TIMEOUT=180 make -C "/$place" "$@"
"""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(release: str, *targets: str) -> int:
    if os.geteuid() != 0:
        say("a Debian in a folder needs root: `sudo make test-debian`")
        return 1
    if not shutil.which("mmdebstrap"):
        say("there is no mmdebstrap: `apt-get install mmdebstrap`")
        return 1
    for number in SIGNALS:
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    folder = Path(tempfile.mkdtemp(prefix=f"dm-reconciler-{release}-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        _install(release, folder)
        _bring(folder)
        return _apart("sh", "-c", INSIDE, str(folder), PLACE, *(targets or ("test",)))
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        say(f"removing {folder}")
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def _apart(*command: str) -> int:
    """In namespaces of its own. Returns, or raises, once all that ran in them have ended."""
    with subprocess.Popen((*NAMESPACES, *command)) as process:
        try:
            return process.wait()
        except BaseException:
            if process.poll() is None:
                _end(process.pid)
            raise


def _end(unshare: int) -> None:
    """Its first process, with which all others end; unshare itself waits for that."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text(encoding="ascii").split()
    for pid in map(int, children or [str(unshare)]):
        os.kill(pid, signal.SIGKILL)


def _install(release: str, folder: Path) -> None:
    say(f"installing Debian {release} in {folder}")
    command = ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDED}", release, str(folder), MIRROR)
    if _apart(*command):
        sys.exit(f"mmdebstrap could not install Debian {release}")


def _bring(folder: Path) -> None:
    """The project as it is committed, and how apt and pip get at their packages here."""
    for path in map(Path, COPIED):
        if path.exists():
            shutil.copy(path, folder / path.relative_to("/"))
    dump = ("apt-config", "dump", *APT_SETTINGS)
    said = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    (folder / "etc/apt/apt.conf.d/99as-the-host").write_text(said, encoding="utf-8")
    subprocess.run(["git", "clone", "--quiet", str(TREE), str(folder / PLACE)], check=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

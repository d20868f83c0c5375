"""A systemd of its own inside the sandbox: the first process of a process namespace, with nothing but the units given.

Not on a host's own kernel: there it would share the host's control groups with the host's systemd.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.testing.environment import eventually
from tests.testing.real_kernel import Run, run

PROGRAM = Path("/lib/systemd/systemd")
GROUPS = Path("/sys/fs/cgroup")
EMPTY = "[Unit]\nDefaultDependencies=no\n"
TARGETS = ("basic", "default", "local-fs", "multi-user", "shutdown", "sysinit")
_WITHIN = 60


def why_not() -> str:
    """Why there can be none here; empty where there can."""
    if "User Mode Linux" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return "a second systemd runs in the sandbox only"
    return "" if PROGRAM.exists() else f"{PROGRAM} is not installed: apt-get install systemd"


class Systemd:
    def __init__(self, process: subprocess.Popen[bytes], units: Path) -> None:
        self._process = process
        self._units = units

    def call(self, *words: str, check: bool = True, timeout: float = _WITHIN) -> Run:
        """A program as on that systemd's host: with its processes and its mounts."""
        where = ("nsenter", "--target", str(self.pid), "--pid", "--mount")
        return run(*where, "--", *words, check=check, timeout=timeout)

    def ctl(self, *words: str, check: bool = True) -> Run:
        return self.call("systemctl", *words, check=check)

    def show(self, unit: str, name: str) -> str:
        return self.ctl("show", "--property", name, "--value", unit).out

    def add(self, file: str, text: str) -> None:
        """One more unit."""
        _write(self._units / file, text)
        self.ctl("daemon-reload")

    def main_pid(self, unit: str) -> int:
        """As seen from here."""
        inside = self.show(unit, "MainPID")
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text(encoding="ascii")
            except OSError:  # it has ended
                continue
            _, _, numbers = text.partition("NSpid:")
            here, *there = numbers.partition("\n")[0].split()
            if there == [inside]:
                return int(here)
        raise AssertionError(f"{unit} has no process {inside}")

    def log(self, lines: int = 30) -> str:
        """The last that it had to say."""
        said = [line for line in run("dmesg", "--notime").out.splitlines() if line.startswith("systemd[1]")]
        return "\n".join(said[-lines:])

    @property
    def pid(self) -> int:
        """The only child of `unshare`; 0 before it is there."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(children.read_text(encoding="ascii") or 0)


@contextmanager
def a_systemd(root: Path, files: Mapping[str, str]) -> Iterator[Systemd]:
    """Its units are these, in a folder below `root`; those of the host it does not know."""
    units = root / "units"
    for name, text in {**{f"{target}.target": EMPTY for target in TARGETS}, **files}.items():
        _write(units / name, text)
    shutil.rmtree("/run/systemd", ignore_errors=True)  # of one before it
    log = root / "systemd.log"
    environment = {"PATH": os.environ["PATH"], "container": "sandbox", "SYSTEMD_UNIT_PATH": str(units)}
    own = ("unshare", "--kill-child", "--fork", "--pid", "--mount-proc", "--mount", "--propagation", "shared")
    begin = f"mount -t cgroup2 cgroup2 {GROUPS} && exec {PROGRAM} --system --log-target=kmsg"
    with log.open("wb") as opened:
        process = subprocess.Popen((*own, "sh", "-c", begin), stdout=opened, stderr=opened, env=environment)
    systemd = Systemd(process, units)
    try:
        eventually(lambda: systemd.pid, "it is started")
        eventually(lambda: systemd.ctl("is-system-running", check=False).out in {"running", "degraded"}, "systemd runs")
        yield systemd
    finally:
        process.kill()  # its child goes with it, and with that every process of the namespace
        process.wait(_WITHIN)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")

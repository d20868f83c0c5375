"""The simulated kernel beside the real one: every operation goes to both, and both must answer and look the same."""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from reconciler.kernel.block.loops import told_as
from reconciler.kernel.host import host_kernel
from reconciler.kernel.protocol import Kernel
from reconciler.model.errors import HostError
from reconciler.model.units import Bytes
from tests.testing.conformance.corpus import CORPUS
from tests.testing.conformance.environment import DATA_BLOCKS, METADATA
from tests.testing.conformance.suite import Compared, RandomSequences
from tests.testing.real_kernel import run, this_release

DISKS = ("metadata", "data")
EXPLORE = os.environ.get("CONFORMANCE_EXAMPLES")
"""So many random sequences, other ones each time. Without it a few, always the same."""
ROUNDS = 1000
HANGS_AFTER = 20
"""Seconds. What the simulated kernel does not take for blocking must not block."""


class RealEnvironment:
    """Two files of an own tmpfs on loops, and devices whose names begin with the prefix."""

    def __init__(self, folder: Path) -> None:
        self.prefix = f"dmrtest-{secrets.token_hex(3)}-"
        self._folder = folder
        self._kernel = host_kernel()
        for disk, size in zip(DISKS, (METADATA, DATA_BLOCKS * 65536), strict=True):
            self._kernel.disks.make_file(self.path(disk), Bytes(size), allocate=False)
            self._kernel.disks.attach(self.path(disk))

    @property
    def kernel(self) -> Kernel:
        return self._kernel

    def path(self, disk: str) -> str:
        return str(self._folder / f"{self.prefix}{disk}")

    def write(self, name: str, number: int, token: str) -> None:
        with self._opened(name, os.O_RDWR) as (device, buffer):
            buffer[:] = token.encode().ljust(4096, b"\0")
            os.pwritev(device, [buffer], number * 65536)
            os.fsync(device)

    def read(self, name: str, number: int) -> str:
        with self._opened(name, os.O_RDONLY) as (device, buffer):
            os.preadv(device, [buffer], number * 65536)
            return bytes(buffer[:64]).rstrip(b"\0").decode()

    @contextmanager
    def _opened(self, name: str, flags: int) -> Iterator[tuple[int, mmap.mmap]]:
        """Past the page cache, so that every read and write reaches the device."""
        with told_as("open", name), mmap.mmap(-1, 4096) as buffer:
            device = os.open(f"/dev/mapper/{name}", flags | os.O_DIRECT)
            try:
                yield device, buffer
            finally:
                os.close(device)

    def remove_deferred(self, name: str) -> None:
        if self._kernel.dm.info(name) is None:
            raise HostError("remove", name, errno.ENXIO)
        run("dmsetup", "remove", "--deferred", name)

    def rename(self, name: str, new: str) -> None:
        done = run("dmsetup", "rename", name, new, check=False)
        if done.code:
            raise HostError("rename", name, _errno_in(done.err))

    def garbage(self, disk: str) -> None:
        with Path(self.path(disk)).open("r+b") as file:
            file.write(b"\xa5" * 4096)

    def power_cut(self) -> None:
        """What the files hold at this moment, whatever the kernel still means to write."""
        for disk in DISKS:
            shutil.copyfile(self.path(disk), self.path(disk) + ".cut")
        self._remove_devices()
        for disk in DISKS:
            self._detach(disk)
            Path(self.path(disk) + ".cut").replace(self.path(disk))
            self._kernel.disks.attach(self.path(disk))

    def _remove_devices(self) -> None:
        """From the top down, suspended ones too: to resume them first could hang."""
        for _ in range(ROUNDS):
            mine = [listed.name for listed in self._kernel.dm.list_all() if listed.name.startswith(self.prefix)]
            for name in reversed(mine):
                with suppress(HostError):
                    self._kernel.dm.remove(name)
            if not mine:
                return
            time.sleep(0.01)  # whoever writes to a device makes udev look into it
        raise AssertionError(f"left behind: {mine}")

    def _detach(self, disk: str) -> None:
        for loop in self._kernel.disks.loops_on(self.path(disk)):
            self._kernel.disks.detach(loop)

    def close(self) -> None:
        self._remove_devices()
        for disk in DISKS:
            self._detach(disk)
            self._kernel.disks.delete_file(self.path(disk))


def _errno_in(text: str) -> int:
    """Dmsetup ends with 1 whatever went wrong, and says which."""
    return next((number for number in (errno.EBUSY, errno.ENXIO) if os.strerror(number) in text), 0)


@contextmanager
def compared(folder: Path) -> Iterator[Compared]:
    environment = RealEnvironment(folder)
    try:
        yield Compared(environment, _watchdog(), this_release())
    finally:
        signal.alarm(0)
        environment.close()


def _watchdog() -> Callable[[str], object]:
    def hung(*_: object) -> None:
        raise AssertionError(f"the real kernel hangs in {last[-1]}")

    last = [""]
    signal.signal(signal.SIGALRM, hung)

    def begun(operation: str) -> None:
        last.append(operation)
        signal.alarm(HANGS_AFTER)

    return begun


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(name: str, workdir: Path) -> None:
    with compared(workdir) as kernels:
        kernels.run(CORPUS[name])


@pytest.mark.timeout(900)
def test_random_sequences(workdir: Path) -> None:
    class Sequences(RandomSequences):
        def __init__(self) -> None:
            self._both = compared(workdir)
            entered = self._both.__enter__()
            type(self).make = lambda: entered
            super().__init__()

        def teardown(self) -> None:
            self._both.__exit__(None, None, None)

    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=int(EXPLORE or 6),
            derandomize=EXPLORE is None,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )

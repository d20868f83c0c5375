"""Fixtures for tests on a real kernel: tmpfs files, loops, pools, and a clean-up that knows only what a test made.

They run as root inside the sandbox, or on the host's own kernel with KERNEL=host. Anywhere else they are skipped, and
the summary says so: a skip is no pass.
"""

from __future__ import annotations

import errno
import functools
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.host import is_thrown_away
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.simulated.machine import Release
from reconciler.model.dm_tables import Devno, PoolTable, Target, ThinTable
from reconciler.model.errors import HostError
from reconciler.model.live import DeviceInfo
from reconciler.model.units import Bytes, Sectors, sectors

FOLDERS = tuple(Path(__file__).parents[1] / name for name in ("kernel", "e2e"))
"""Of the tests that need a real kernel."""
MIB = 1024 * 1024
ERROR = Target(Sectors(0), Sectors(2048), "error", "")
"""The simplest live table: 1 MiB that fails all I/O."""
BLOCK = sectors(Bytes(64 * 1024))
CLEAN_UP_SECONDS = 20.0


def why_not() -> str:
    """Why the tests of this folder cannot run here, empty where they can."""
    if os.geteuid() != 0:
        return "not root"
    try:
        os.close(os.open("/dev/mapper/control", os.O_RDWR))  # a node alone may be a leftover
    except OSError as error:
        return f"this kernel has no device-mapper ({error.strerror})"
    if not is_thrown_away() and os.environ.get("KERNEL") != "host":
        return "not inside the sandbox, and KERNEL=host was not given"
    return ""


LEFT_OUT = pytest.StashKey[str]()
"""Why tests of those folders that were asked for did not run."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Called for the whole session: only the tests of those folders are looked at."""
    mine = [item for item in items if any(item.path.is_relative_to(folder) for folder in FOLDERS)]
    reason = why_not() if mine else ""
    if not reason:
        return
    config.stash[LEFT_OUT] = reason
    for item in mine:
        item.add_marker(pytest.mark.skip(reason=f"REAL-KERNEL TESTS DID NOT RUN: {reason}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reason = config.stash.get(LEFT_OUT, "")
    if reason:
        terminalreporter.write_line(
            f"REAL-KERNEL TESTS DID NOT RUN: {reason}. Run them in a throw-away kernel:"
            " python -m reconciler.sandbox -- python -m pytest tests/kernel tests/e2e",
            red=True,
            bold=True,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What a program said."""

    code: int
    out: str
    err: str


def run(*words: str, check: bool = True, timeout: float = 60, stdin: str | None = None) -> Run:
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=timeout, input=stdin)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return Run(done.returncode, done.stdout.strip(), done.stderr.strip())


@contextmanager
def fails(number: int) -> Iterator[None]:
    """With a HostError that carries this errno."""
    with pytest.raises(HostError) as caught:
        yield
    assert caught.value.code == errno.errorcode[number]


@functools.cache
def this_release() -> Release:
    """Which of the observed kernels this one is like. It is asked: distributions bring later answers into earlier ones."""
    dm, name = LibDm(), f"dmrtest-{secrets.token_hex(3)}-asked"
    dm.create(name, "")
    try:
        if not _refuses(lambda: dm.message(name, "anything")):
            return Release.V6_1
        devno = info_of(dm, name).devno
        itself = Target(Sectors(0), Sectors(8), "thin", f"{devno} 0")
        return Release.V6_12 if _refuses(lambda: dm.load(name, (itself,))) else Release.V6_1_LATE
    finally:
        dm.remove(name)


def _refuses(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except HostError as fault:
        return fault.errno == errno.EINVAL
    return False


def info_of(dm: LibDm, name: str) -> DeviceInfo:
    """Of a device that must be there."""
    info = dm.info(name)
    assert info is not None
    return info


def devno_of(path: str | Path) -> Devno:
    number = Path(path).stat().st_rdev
    return Devno(os.major(number), os.minor(number))


@dataclass(frozen=True, slots=True)
class TestPool:
    """A live pool on two loops."""

    __test__ = False

    name: str
    devno: Devno
    table: PoolTable
    metadata: Path
    """The loop's node, as `data`."""
    data: Path
    metadata_file: Path
    data_file: Path

    def thin(self, thin_id: int, size: int = 4 * MIB) -> ThinTable:
        return ThinTable(sectors(Bytes(size)), self.devno, thin_id)


@pytest.fixture
def prefix() -> str:
    """Names of devices that a test makes start with it; what does not is never touched."""
    return f"dmrtest-{secrets.token_hex(3)}-"


@pytest.fixture
def workdir() -> Iterator[Path]:
    """An own, empty tmpfs."""
    folder = Path(tempfile.mkdtemp(prefix="dmrtest-", dir="/run"))
    run("mount", "-t", "tmpfs", "-o", "size=1G", "dmrtest", str(folder))
    yield folder
    run("umount", str(folder), check=False)
    if os.path.ismount(folder):
        run("umount", "--lazy", str(folder))  # a device that could not be removed; the clean-up has said which
    folder.rmdir()


@pytest.fixture
def dm(prefix: str) -> Iterator[LibDm]:
    """The library on the real kernel. Afterwards everything named with the prefix goes."""
    library = LibDm()
    yield library
    remove_devices(library, prefix)


@pytest.fixture
def dmsetup() -> Callable[..., Run]:
    """`dmsetup("info", name)`: the real program. `check=False` for what may fail."""

    def call(*words: str, check: bool = True) -> Run:
        return run("dmsetup", *words, check=check)

    return call


@pytest.fixture
def make_loop(workdir: Path) -> Iterator[Callable[..., Path]]:
    """`make_loop("data", 256 * MIB)`: the node of a loop on a new sparse file of that name."""
    made: list[str] = []

    def make(name: str, size: int = 64 * MIB) -> Path:
        file = workdir / name
        with file.open("wb") as opened:
            opened.truncate(size)
        node = run("losetup", "--find", "--show", str(file)).out
        made.append(node)
        return Path(node)

    yield make
    for node in made:
        run("losetup", "--detach", node, check=False)


@pytest.fixture
def make_pool(make_loop: Callable[..., Path], workdir: Path, dm: LibDm, prefix: str) -> Callable[..., TestPool]:
    """`make_pool("base", thins=(0, 1))`: a live pool with these thin ids. Its name carries the prefix."""

    def make(
        name: str = "pool",
        *,
        data: int = 256 * MIB,
        metadata: int = 16 * MIB,
        thins: tuple[int, ...] = (),
        error_if_full: bool = False,
    ) -> TestPool:
        full, uuid = prefix + name, f"DMR-{prefix}{name}"
        metadata_loop, data_loop = make_loop(f"{name}.metadata", metadata), make_loop(f"{name}.data", data)
        table = PoolTable(
            length=sectors(Bytes(data)),
            metadata=devno_of(metadata_loop),
            data=devno_of(data_loop),
            block=BLOCK,
            low_water=0,
            error_if_full=error_if_full,
        )
        dm.create(full, uuid)
        dm.load(full, (table.target(),))
        dm.resume(full, hidden=True)
        for thin_id in thins:
            dm.message(full, f"create_thin {thin_id}")
        info = dm.info(full)
        assert info is not None
        files = (workdir / f"{name}.metadata", workdir / f"{name}.data")
        return TestPool(full, info.devno, table, metadata_loop, data_loop, *files)

    return make


@pytest.fixture
def make_thin(dm: LibDm, prefix: str) -> Callable[..., str]:
    """`make_thin(pool, 3, "t")`: a live thin on a thin id that is there already; gives its full name."""

    def make(pool: TestPool, thin_id: int, name: str = "thin", size: int = 4 * MIB) -> str:
        full = prefix + name
        dm.create(full, f"DMR-{full}")
        dm.load(full, (pool.thin(thin_id, size).target(),))
        dm.resume(full)
        return full

    return make


def remove_devices(dm: LibDm, prefix: str) -> None:
    """All with the prefix, from the top down: what is open waits for a later pass. udev may look into one for a while."""
    until = time.monotonic() + CLEAN_UP_SECONDS
    refused: dict[str, str] = {}
    while mine := [listed for listed in dm.list_all() if listed.name.startswith(prefix)]:
        if time.monotonic() > until:
            raise AssertionError(f"left behind: {refused}")
        for listed in mine:  # bottom up, as they were made: a thin does not resume on a suspended pool
            info = dm.info(listed.name)
            if info is not None and info.suspended and info.live_table:
                run("dmsetup", "resume", listed.name, check=False, timeout=10)
        for listed in reversed(mine):
            try:
                dm.remove(listed.name)
            except HostError as fault:
                refused[listed.name] = str(fault)
        time.sleep(0.05)

"""What the tests of pools ask and do beside the daemon, all with the plain programs that an operator has."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testing.environment import Environment, Record, eventually
from tests.testing.real_kernel import run


def dmsetup(*words: str, check: bool = True) -> str:
    return run("dmsetup", *words, check=check).out


def table(name: str) -> str:
    """The live table; empty where there is no device."""
    return dmsetup("table", name, check=False)


def pool_status(name: str) -> list[str]:
    """The words of the kernel's status line, after the target's name: `TID META DATA ...`."""
    return dmsetup("status", "--noflush", name).split()[3:]


def transaction(name: str) -> int:
    return int(pool_status(name)[0])


def exists(env: Environment, name: str) -> bool:
    return env.dm.info(name) is not None


def has_node(name: str) -> bool:
    """It can be read: udev makes the node a moment after the device is live."""
    return Path(f"/dev/mapper/{name}").exists()


def is_suspended(env: Environment, name: str) -> bool:
    info = env.dm.info(name)
    return info is not None and info.suspended


def loops_on(path: Path) -> list[str]:
    return run("losetup", "--associated", str(path), "--noheadings", "--output", "NAME").out.split()


def attach(path: Path) -> str:
    return run("losetup", "--find", "--show", str(path)).out


def make_disk(env: Environment, name: str, mib: int = 64) -> str:
    """A block device of zeros: the node of a loop on a new sparse file."""
    file = env.root / name
    run("truncate", "--size", f"{mib}M", str(file))
    return attach(file)


def checksum(path: str | Path) -> str:
    return run("sha256sum", str(path)).out.split()[0]


def write(device: str, mib: int, *, at: int = 0) -> None:
    """Random bytes, past the page cache."""
    place = (f"seek={at}",) if at else ()
    run("dd", "if=/dev/urandom", f"of=/dev/mapper/{device}", "bs=1M", f"count={mib}", "oflag=direct", *place)


def overwrite(path: Path | str, *, skip: int = 0, source: str = "/dev/zero") -> None:
    """4096 bytes, from that block of 4096 on."""
    run("dd", f"if={source}", f"of={path}", "bs=4096", "count=1", f"seek={skip}", "conv=notrunc,fsync")


def declared(record: Record, **spec: object) -> Record:
    """The same record with these fields of its spec."""
    return {**record, "spec": {**record["spec"], **spec}}


@contextmanager
def paused(env: Environment, record: Record, *devices: Record) -> Iterator[None]:
    """Hands off this pool, so that a test can make a state that would heal before it is whole."""
    file = f"{record['metadata']['name']}.yaml"
    name = record["metadata"]["name"].removeprefix(env.prefix)
    env.declare(declared(record, paused=True), *devices, file=file)
    env.wait_pool("Paused", pool=name)
    yield
    env.declare(record, *devices, file=file)


@contextmanager
def stopped(env: Environment) -> Iterator[None]:
    """The daemon does not get to run meanwhile, so that a test can make a state that would heal before it is whole.

    What is asked of it just afterwards may be from before: wait for what changed in the world first.
    """
    assert env.process is not None
    env.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        env.process.send_signal(signal.SIGCONT)


def put_down(env: Environment, pool: str, *devices: str) -> None:
    """Every device of the pool, and the pool; its loops stay."""
    for device in (*(env.dm_name(device, pool) for device in devices), env.prefix + pool):
        eventually(lambda device=device: _removed(device), f"{device} can be removed")  # type: ignore[misc]


def _removed(name: str) -> bool:
    """Not at once: udev has a device open for moments after each event."""
    return run("dmsetup", "remove", name, check=False).code == 0


def detach_loops(env: Environment, pool: str) -> None:
    for kind in ("data", "meta"):
        for loop in loops_on(env.root / f"{pool}.{kind}"):
            detach(loop)


def detach(*loops: str) -> None:
    """The kernel lets go of a loop at its last close, which may be udev's."""
    run("losetup", "--detach", *loops)
    for loop in loops:
        backing = Path("/sys/block", Path(loop).name, "loop/backing_file")
        eventually(lambda backing=backing: not backing.exists(), f"{loop} is free")  # type: ignore[misc]


def passes(env: Environment, count: int = 2) -> None:
    """Let so many whole passes over each pool go by: what was to be done would have been begun."""
    pools = len(env.get("/api/v1/pools")["items"])

    def done() -> float:
        return env.metric("dm_reconciler_resync_duration_seconds_count")

    wanted = done() + count * pools
    eventually(lambda: done() >= wanted, f"{count} passes over {pools} pools")

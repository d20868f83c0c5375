"""A call that hangs in the kernel, where no signal reaches it, hangs alone.

The metadata's own device is suspended while thins are being made: the next message to the pool waits for it. Or it is
so slow that a message takes longer than anybody waits.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import dmsetup, exists, make_disk, table, transaction
from tests.testing.real_kernel import MIB

MANY = 200
"""Devices to be made: more than are made while the metadata's device is being suspended."""
FEW = 3
LATE = 60_000
"""Milliseconds that each read and write of a slow disk takes: until it is a good one again, nothing gets done."""
ENDING = 5.0
"""Seconds within which it answers, and within which it ends, whatever hangs."""


@pytest.fixture
def env() -> Iterator[Environment]:
    """One pool whose metadata is on a linear device, and one that has nothing to do with it."""
    with an_environment() as env:
        below = env.prefix + "metadisk"
        dmsetup("create", below, "--table", f"0 {8 * MIB // 512} linear {make_disk(env, 'metadisk', 8)} 0")
        env.declare(env.pool("hangs", metadata={"device": f"/dev/mapper/{below}"}), file="hangs.yaml")
        env.declare(env.pool("works"), env.device("a", "works"), file="works.yaml")
        env.start("--suspend-grace", "1s")
        env.wait_pool(pool="hangs")
        env.wait("a", pool="works")
        good = table(below)
        try:
            yield env
        finally:
            _swap(below, good)


def _workers() -> list[Path]:
    return [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal() and _is_worker(folder)]


def _is_worker(folder: Path) -> bool:
    try:
        return b"reconciler.kernel.worker" in (folder / "cmdline").read_bytes()
    except OSError:
        return False


def _is_hung(folder: Path) -> bool:
    """Uninterruptible, as /proc tells."""
    try:
        return (folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "D"
    except OSError:
        return False


def _hung_for_long() -> bool:
    """Some worker has been in the kernel for longer than any call takes."""
    hung: list[Path] = []
    end = time.monotonic() + 1.0
    while not hung and time.monotonic() < end:
        hung = [folder for folder in _workers() if _is_hung(folder)]
    if not hung:
        return False
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if not all(_is_hung(folder) for folder in hung):
            return False
        time.sleep(0.05)
    return True


def _hang(below: str, pool: str) -> None:
    """Suspend the metadata's device until that hits a message on its way.

    A look before the message sees the suspension, and then nothing is sent: that is the rule, and not what is tested.
    """
    for _ in range(25):
        dmsetup("suspend", "--noflush", below)
        if _hung_for_long():
            return
        dmsetup("resume", below)
        made = transaction(pool)
        eventually(lambda made=made: transaction(pool) > made, "devices are being made again")  # type: ignore[misc]
    raise AssertionError("no message was ever on its way when the metadata's device was suspended")


def _others_heal(env: Environment) -> None:
    dmsetup("remove", "--retry", env.dm_name("a", "works"))
    eventually(lambda: exists(env, env.dm_name("a", "works")), "the other pool's device is back")


def _answers(env: Environment) -> None:
    begun = time.monotonic()
    assert env.get("/healthz")
    assert "dm_reconciler_pool_data_used_bytes{" in env.get("/metrics")
    assert time.monotonic() - begun < ENDING


def _make(env: Environment, count: int) -> None:
    """So many devices in the pool that is going to hang."""
    below = env.prefix + "metadisk"
    devices = [env.device(f"d{number}", "hangs", state="Inactive") for number in range(count)]
    env.declare(env.pool("hangs", metadata={"device": f"/dev/mapper/{below}"}), *devices, file="hangs.yaml")


def _hangs_alone(env: Environment, below: str | None = None) -> None:
    """Nothing else is held up: not the other pool, not HTTP, not the end of the daemon, and not the next one. Said is
    what has no answer, and what the worker waits for: `below`, where that is suspended.
    """
    _others_heal(env)
    _answers(env)
    said = env.wait_pool("Stuck", "hangs")
    assert "waits in the kernel, in " in said["message"]
    if below is not None:
        told = f"{below}, which the pool lies on, is suspended: `dmsetup resume {below}`"
        eventually(lambda: told in env.pool_status("hangs")["message"], "the cause is named")
    _others_heal(env)

    begun = time.monotonic()
    assert env.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begun < ENDING
    assert any(_is_hung(folder) for folder in _workers()), "its worker is left behind"

    env.start()
    _others_heal(env)
    said = env.wait_pool("Stuck", "hangs")
    assert str(env.state) in said["message"]
    _answers(env)


def _all_made(env: Environment, count: int) -> None:
    eventually(lambda: transaction(env.prefix + "hangs") == count, "all devices are made")
    env.wait(f"d{count - 1}", pool="hangs")
    env.wait_pool(pool="hangs")
    assert env.pool_status("hangs")["leakedThinIds"] == []


@pytest.mark.security("S33")
def test_a_hanging_pool_takes_nothing_with_it_and_heals_when_it_is_let_go(env: Environment) -> None:
    below, pool = env.prefix + "metadisk", env.prefix + "hangs"
    _make(env, MANY)
    eventually(lambda: transaction(pool) > 2, "devices are being made")
    _hang(below, pool)
    _hangs_alone(env, below)
    dmsetup("resume", below)
    _all_made(env, MANY)


@pytest.mark.soak
def test_a_pool_whose_metadata_is_far_too_slow_hangs_alone_and_heals_on_a_good_disk(env: Environment) -> None:
    below = env.prefix + "metadisk"
    good = table(below)
    _, length, _, disk, offset = good.split()
    _swap(below, f"0 {length} delay {disk} {offset} {LATE}")
    _make(env, FEW)
    eventually(_hung_for_long, "its worker waits for the disk")
    _hangs_alone(env)
    _swap(below, good)
    _all_made(env, FEW)


def _swap(name: str, line: str) -> None:
    """Another table, and what still waits in the old one goes on. Without udev: it reads what may be slow."""
    dmsetup("load", name, "--table", line)
    dmsetup("resume", "--noudevsync", name)

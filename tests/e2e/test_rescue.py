"""Somebody suspends a pool in the midst of a step, and the worker hangs in it: a second worker resumes the pool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest

from reconciler.kernel.worker import client
from reconciler.kernel.worker.client import ProcessWorkerClient, WorkerClient
from reconciler.model.live import ScanRequest, ScanScope
from reconciler.model.steps import CreateSnapshot, HostStep, Resume
from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import dmsetup, is_suspended

TRIES = 10
ENDING = 5.0
"""Seconds within which the daemon ends, whatever hangs."""


@pytest.fixture
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s")
        env.wait_pool()
        try:
            yield env
        finally:
            for pid in workers():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            dmsetup("resume", env.prefix + "tank", check=False)


def workers() -> set[int]:
    """Of this daemon or of one before it."""
    return {int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal() and _is_worker(folder)}


def _is_worker(folder: Path) -> bool:
    """Each leads a session of its own; what it forks to start a program looks like it, and does not."""
    try:
        is_one = b"reconciler.kernel.worker" in (folder / "cmdline").read_bytes()
        return is_one and os.getsid(int(folder.name)) == int(folder.name)
    except OSError:
        return False


def suspend_in_the_midst_of_mkfs(env: Environment) -> str:
    """The device that is being made meanwhile."""
    pool = env.prefix + "tank"
    for number in count():
        assert number < TRIES, "the pool was never suspended before mkfs had ended"
        name = f"d{number}"
        private = env.dm_name(name) + ".private"
        env.declare(env.device(name, filesystem={"type": "ext4"}), file=f"{name}.yaml")
        eventually(lambda private=private: env.dm.info(private), "its filesystem is being made", pause=0.005)  # type: ignore[misc]
        dmsetup("suspend", "--noflush", pool)
        time.sleep(0.5)  # whatever needs no disk comes to its end
        if env.dm.info(private) is not None:
            return name
        dmsetup("resume", pool)
    raise AssertionError


def test_a_pool_that_is_suspended_under_mkfs_is_resumed_and_the_device_is_made(env: Environment) -> None:
    before = workers()
    name = suspend_in_the_midst_of_mkfs(env)
    eventually(lambda: len(workers()) == 2, "there is a second worker")
    assert is_suspended(env, env.prefix + "tank")
    env.wait(name, live="Active")
    assert not is_suspended(env, env.prefix + "tank")
    assert env.metric("dm_reconciler_actions_total", action="resume", result="success") == 1
    assert any("a second worker resumes it" in event["message"] for event in env.events(env.prefix + "tank"))
    eventually(lambda: workers() == before, "the second one has ended")
    env.wait_pool()


@pytest.mark.soak
def test_with_both_workers_hanging_the_daemon_ends_in_time_and_the_next_one_resumes_the_pool(env: Environment) -> None:
    before = workers()
    name = suspend_in_the_midst_of_mkfs(env)
    eventually(lambda: len(workers()) == 2, "there is a second worker", pause=0.02)
    (second,) = workers() - before
    os.kill(second, signal.SIGSTOP)
    assert is_suspended(env, env.prefix + "tank")

    begun = time.monotonic()
    assert env.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begun < ENDING
    assert workers() == before | {second}, "both are left behind"
    os.kill(second, signal.SIGCONT)
    eventually(lambda: workers() == before, "the second has ended, with nothing done")
    assert is_suspended(env, env.prefix + "tank")

    env.start()
    env.wait(name, live="Active")
    env.wait_pool()
    eventually(lambda: len(workers()) == 1, "one worker is left")


class Resumer:
    """A helper that resumes the pool at once."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.saw: list[bool] = []

    def waiting(self, beside: WorkerClient) -> None:
        look = beside.look(ScanRequest())
        assert look.pool.device is not None
        self.saw.append(look.pool.device.info.suspended)
        beside.run(Resume(self.pool))

    def cause(self) -> str:
        return ""

    def answered(self) -> None:
        """The port ends the second one."""


@pytest.mark.soak
@pytest.mark.parametrize("what", ["bring up", "swap", "snapshot"])
def test_whatever_call_the_first_one_hangs_in_the_second_looks_and_resumes(
    env: Environment, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    env.have("a")
    pool, name, other = env.prefix + "tank", env.dm_name("a"), env.dm_name("other")
    on_pool = env.thin_table("a").rpartition(" ")[0]
    steps: dict[str, HostStep] = {
        "bring up": Resume(other),
        "swap": Resume(name),
        "snapshot": CreateSnapshot(pool, 900, env.status("a")["deviceId"], suspend=name),
    }
    monkeypatch.setattr(client, "PATIENCE", 1.0)
    helper = Resumer(pool)
    with (
        env.asleep(),
        closing(ProcessWorkerClient(ScanScope(pool, None, None, frozenset()), env.state, lock=False)) as port,
    ):
        dmsetup("message", pool, "0", "create_thin 901")
        dmsetup("create", other, "--notable")
        if what != "snapshot":
            dmsetup("load", other if what == "bring up" else name, "--table", f"{on_pool} 901")
        port.tell_of_waits(helper)
        port.look(ScanRequest())
        dmsetup("suspend", "--noflush", pool)
        port.run(steps[what])
    assert helper.saw == [True]

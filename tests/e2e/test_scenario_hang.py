"""The hang: whoever opens a device that was left suspended waits for ever. The reconciler lets them go on, and its own
way of committing has no moment in which anybody could be caught.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

READERS = {
    "dd": ("dd", "if={node}", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"),
    "fdisk": ("fdisk", "-l", "{node}"),
}
COMMITS = 6


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


def start(env: Environment, reader: str, name: str) -> subprocess.Popen[bytes]:
    command = [word.format(node=env.node(name)) for word in READERS[reader]]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def waits_in_the_kernel(process: subprocess.Popen[bytes]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "D"


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_that_hangs_on_a_suspended_committed_device_gets_on(env: Environment, reader: str) -> None:
    name = f"left-{reader}"
    env.have(name, state="Committed")
    table = env.thin_table(name)
    with env.asleep():
        run("dmsetup", "create", env.dm_name(name), "--table", table)
        run("udevadm", "settle")
        run("dmsetup", "suspend", env.dm_name(name))
        hanging = start(env, reader, name)
        eventually(lambda: waits_in_the_kernel(hanging), f"{reader} hangs")
    deferred: list[bool] = []

    def gone() -> bool:
        info = env.info(name)
        if info is not None:
            deferred.append(info.deferred_remove)
        return info is None

    eventually(gone, "it is removed", pause=0.005)
    assert hanging.wait(10) == 0, "the reader got what it waited for"
    assert deferred
    assert not any(deferred)
    env.wait(name, live="Inactive")


def test_committing_never_suspends_and_nobody_is_caught(env: Environment) -> None:
    names = [f"layer-{number}" for number in range(COMMITS)]
    env.declare(*(env.device(name) for name in names), file="layers.yaml")
    for name in names:
        env.wait(name, live="Active")
    script = (
        'while [ -e "$0/go" ]; do for node in "$@"; do timeout 5 dd if=$node of=/dev/null bs=4k count=1 iflag=direct'
    )
    script += ' 2>/dev/null; [ $? -eq 124 ] && echo "caught at $node"; done; done; exit 0'
    go = env.root / "go"
    go.touch()
    nodes = [str(env.node(name)) for name in names]
    suspended: list[str] = []

    def all_gone() -> bool:
        infos = [env.info(name) for name in names]
        suspended.extend(info.name for info in infos if info is not None and info.suspended)
        return not any(infos)

    with subprocess.Popen(["bash", "-c", script, str(env.root), *nodes], stdout=subprocess.PIPE, text=True) as readers:
        env.declare(*(env.device(name, state="Committed") for name in names), file="layers.yaml")
        eventually(all_gone, "all are committed", pause=0.005)
        go.unlink()
        caught, _ = readers.communicate(timeout=30)
    assert not caught
    assert not suspended
    for name in names:
        env.wait(name, live="Inactive")

"""What the daemon may do at all: it keeps the capabilities of the list, works with them, and each is needed."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from reconciler.kernel import privileges, programs
from reconciler.kernel.block.holders import processes_using
from reconciler.kernel.command_lines import grow_filesystem_command
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.privileges import EVERY, Capability, Held, lock_memory
from tests.testing.environment import Environment, an_environment, children_of, eventually
from tests.testing.real_kernel import MIB, Run, TestPool, devno_of, run

NOT_DONE = 1
NOBODY = "65534"


def without(name: str, *words: str) -> Run:
    """Run by root, with all of the list but this one."""
    kept = ",".join(["-all", *(f"+{_word(capability)}" for capability in EVERY if capability.name != name)])
    return run("setpriv", "--no-new-privs", "--inh-caps", "-all", "--bounding-set", kept, *words, check=False)


def _word(capability: Capability) -> str:
    """As setpriv has it."""
    return capability.name.removeprefix("CAP_").lower()


def in_a_child(work: Callable[[], object]) -> str:
    """What it gives, or says as it fails: a process cannot take back what it drops."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = str(work())
        except BaseException as error:  # noqa: BLE001  # nothing of it may go on in two processes
            told = str(error)
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return told


def with_only(capabilities: tuple[Capability, ...], work: Callable[[], object]) -> str:
    def dropped() -> object:
        privileges.drop_all_others(capabilities)
        return work()

    return in_a_child(dropped)


def bits(capabilities: tuple[Capability, ...]) -> int:
    return sum(1 << capability.bit for capability in capabilities)


def held_by(text: str) -> dict[str, int]:
    """Of a process or thread, as its status in /proc tells: Prm, Eff, Bnd, Inh, Amb, and whether it can gain any."""
    found = {name: int(value, 16) for name, value in re.findall(r"^Cap(\w+):\s*(\w+)$", text, re.MULTILINE)}
    return found | {"NoNewPrivs": int(text.partition("NoNewPrivs:")[2].split()[0])}


def status_of(process: Path) -> str:
    """Empty for a thread that has ended: each answers one request."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return (process / "status").read_text(encoding="ascii")
    return ""


# The daemon


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool(data={"file": str(env.root / "tank.data"), "size": "768MiB"}), file="pool.yaml")
        env.start()
        env.wait_pool()
        yield env


@pytest.mark.security("S01")
def test_the_daemon_and_its_workers_hold_what_is_needed_and_can_gain_nothing(env: Environment) -> None:
    assert env.process is not None
    tasks = list(Path(f"/proc/{env.process.pid}/task").iterdir())
    workers = [Path("/proc", str(pid)) for pid in children_of(env.process.pid)]
    assert len(tasks) > 1
    assert len(workers) == 1
    wanted = bits(EVERY)
    for process in (*tasks, *workers, *workers[0].glob("task/*")):
        text = status_of(process)
        held = held_by(text) if text else {}
        all_of_it = {"Prm": wanted, "Eff": wanted, "Bnd": wanted, "Inh": 0, "Amb": 0, "NoNewPrivs": 1}
        assert held in ({}, all_of_it), process
    assert held_by(status_of(workers[0])) == all_of_it


@pytest.mark.security("S02")
def test_with_that_it_does_all_its_work(env: Environment) -> None:
    """Pools on files, filesystems that are made and grow, mounted and not, discards, holders, what udev announces."""
    ext4, xfs = {"type": "ext4"}, {"type": "xfs"}
    env.declare(env.device("e", size="16MiB", filesystem=ext4), env.device("x", size="320MiB", filesystem=xfs))
    env.declare(env.device("d", discardOnDelete=True), file="d.yaml")
    for name in ("e", "x", "d"):
        env.wait(name)
    with env.mounted("e") as point, a_holder(env.node("d")) as who:
        env.declare(env.device("e", size="32MiB", filesystem=ext4), env.device("x", size="336MiB", filesystem=xfs))
        env.declare(env.device("d", state="Absent"), file="d.yaml")
        env.wait("e", sizeBytes=32 * MIB)
        env.wait("x", sizeBytes=336 * MIB)
        assert os.statvfs(point).f_blocks * os.statvfs(point).f_frsize > 24 * MIB
        busy = env.wait("d", "Busy")
        assert [holder for holder in busy["holders"] if f"(pid {who})" in holder], busy
    env.wait("d", live="Absent")
    assert "is missing" not in env.tail(1000)
    assert "cannot lock" not in env.tail(1000)
    assert "at the next resync only" not in env.tail(1000)


@contextmanager
def a_holder(node: Path) -> Iterator[int]:
    """Another user's process that has the node open."""
    with node.open("rb") as opened:
        holder = subprocess.Popen(
            ["setpriv", "--reuid", NOBODY, "--clear-groups", "sleep", "600"], stdin=opened, process_group=0
        )
    try:
        status = Path(f"/proc/{holder.pid}/status")
        eventually(lambda: f"Uid:\t{NOBODY}" in status.read_text(), "it is another user's")
        yield holder.pid
    finally:
        holder.send_signal(signal.SIGTERM)
        holder.wait()


@pytest.mark.security("S04")
def test_what_it_starts_with_too_little_it_says_at_its_start(env: Environment) -> None:
    """The lock is taken, so that it ends after that."""
    places = ("--manifests", str(env.manifests), "--state-dir", str(env.state), "--listen", "127.0.0.1:0")
    said = without("CAP_SYS_PTRACE", sys.executable, "-m", "reconciler", "run", *places)
    assert said.code == NOT_DONE
    assert "CAP_SYS_PTRACE is missing: processes that hold a device" in said.err
    assert "state directory" in said.err


@pytest.mark.security("S06")
def test_another_user_cannot_run_it_whatever_the_capabilities(env: Environment) -> None:
    """The control device is root's alone, and so is much of what the programs do."""
    caps = ",".join(f"+{_word(capability)}" for capability in EVERY)
    who = ("setpriv", "--reuid", NOBODY, "--clear-groups", "--inh-caps", caps, "--ambient-caps", caps)
    places = ("--manifests", str(env.manifests), "--state-dir", "/run/nobody")
    said = run(*who, sys.executable, "-m", "reconciler", "plan", *places, check=False)
    assert said.code == NOT_DONE
    assert "(EACCES)" in said.err
    assert "run it as root" in said.err


# Each one


@pytest.fixture
def node(make_pool: Callable[..., TestPool], make_thin: Callable[..., str], workdir: Path) -> Iterator[Path]:
    """Of a thin with an ext4 smaller than it, mounted."""
    node = Path("/dev/mapper", make_thin(make_pool(thins=(1,)), 1, size=16 * MIB))
    run("mkfs.ext4", "-q", "-b", "1024", str(node), "8M")
    point = workdir / "on"
    point.mkdir()
    run("mount", str(node), str(point))
    yield node
    run("umount", str(point))


def admin(_: Path) -> object:
    privileges.require_admin()
    return len(LibDm().list_all()) > 1


def holders(node: Path) -> object:
    return [who for who in processes_using(devno_of(node)) if who.startswith("sleep")] != []


def memory(_: Path) -> object:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("reconciler").addHandler(handler)
    lock_memory()
    return said == [] or said[0]


def grow(node: Path) -> object:
    (command,) = grow_filesystem_command(str(node), "ext4", "somewhere")
    return programs.run(command, str(node)).status == 0


def make_node(node: Path) -> object:
    node.unlink()
    LibDm().mknodes(node.name)
    return node.exists()


NEEDED_FOR = {
    "CAP_SYS_ADMIN": (admin, r"use device-mapper failed \(EPERM\): user 0 is without CAP_SYS_ADMIN"),
    "CAP_DAC_READ_SEARCH": (holders, "False"),
    "CAP_SYS_PTRACE": (holders, "False"),
    "CAP_IPC_LOCK": (memory, r"cannot lock the worker in memory \(.+\): give it CAP_IPC_LOCK"),
    "CAP_SYS_RESOURCE": (grow, "resize2fs .+ failed: .*Permission denied.*"),
    "CAP_MKNOD": (make_node, "False"),
}
"""What takes it, and what comes of that without it. With it, all give True."""


@pytest.mark.security("S03")
def test_each_capability_of_the_list_is_needed_and_no_other(node: Path) -> None:
    assert set(NEEDED_FOR) == {capability.name for capability in EVERY}
    with a_holder(node):
        for name, (work, otherwise) in NEEDED_FOR.items():
            others = tuple(capability for capability in EVERY if capability.name != name)
            told = with_only(others, partial(work, node))
            assert re.fullmatch(otherwise, told), (name, told)
            if work is make_node:
                node.touch()  # what was taken away, so that it can be again
            assert with_only(EVERY, partial(work, node)) == "True", name


def status_of_a_program() -> str:
    return programs.run(("cat", "/proc/self/status"), "x").output


def without_setpcap() -> str:
    held = privileges.held()
    privileges._put(Held(held.effective & ~(1 << 8), held.permitted & ~(1 << 8), held.inheritable))
    privileges.drop_all_others()
    return status_of_a_program()


@pytest.mark.security("S01")
def test_what_is_dropped_is_dropped_for_programs_too() -> None:
    held = held_by(with_only(EVERY, status_of_a_program))
    assert (held["Eff"], held["Bnd"], held["NoNewPrivs"]) == (bits(EVERY), bits(EVERY), 1)


def test_where_the_bounding_set_must_stay_programs_gain_nothing_from_it() -> None:
    held = held_by(in_a_child(without_setpcap))
    assert held["Bnd"] != bits(EVERY)
    assert (held["Eff"], held["Prm"], held["NoNewPrivs"]) == (bits(EVERY), bits(EVERY), 1)

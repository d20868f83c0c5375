"""Waiting for udev on a real kernel: nodes are there when a call returns, and no semaphore is ever left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos import udevd
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.model.errors import HostError
from tests.testing.real_kernel import ERROR, info_of, run

SHORT = 0.3
Left = Callable[[], set[str]]


def semaphores() -> set[str]:
    """Their ids, which are not given twice."""
    lines = Path("/proc/sysvipc/sem").read_text(encoding="utf-8").splitlines()[1:]
    return {line.split()[1] for line in lines}


@pytest.fixture(autouse=True)
def left() -> Iterator[Left]:
    """What is there that was not there before: somebody who was killed while he waited leaves one for ever."""
    before = semaphores()

    def now() -> set[str]:
        return semaphores() - before

    yield now
    assert not now()


@pytest.fixture
def busy_udev() -> Iterator[None]:
    """It takes events and does not work on them."""
    run("udevadm", "settle")
    udevd.stop()
    yield
    udevd.go_on()
    run("udevadm", "settle")


def made(dm: LibDm, name: str) -> str:
    dm.create(name, "DMR-" + name)
    dm.load(name, (ERROR,))
    return name


def node(name: str) -> Path:
    return Path("/dev/mapper", name)


def properties(name: str) -> str:
    return run("udevadm", "info", f"/dev/mapper/{name}").out


def test_the_node_is_udevs_link_when_resume_returns(dm: LibDm, prefix: str) -> None:
    name = made(dm, prefix + "d")
    dm.resume(name)
    assert node(name).is_symlink()
    assert "DM_UDEV_DISABLE_LIBRARY_FALLBACK_FLAG=1" in properties(name)
    assert "DM_UDEV_DISABLE_DISK_RULES_FLAG" not in properties(name)


def test_a_hidden_device_is_left_alone_by_the_rules(dm: LibDm, prefix: str) -> None:
    name = made(dm, prefix + "d")
    dm.resume(name, hidden=True)
    for flag in ("SUBSYSTEM_RULES", "DISK_RULES", "OTHER_RULES", "LIBRARY_FALLBACK"):
        assert f"DM_UDEV_DISABLE_{flag}_FLAG=1" in properties(name)
    assert node(name).is_symlink()


def test_calls_that_fail_leave_no_semaphore(dm: LibDm, prefix: str, left: Left) -> None:
    with pytest.raises(HostError):
        dm.resume(prefix + "none")
    with pytest.raises(HostError):
        dm.remove(prefix + "none")
    assert not left()


def test_calls_that_announce_nothing_do_not_wait(dm: LibDm, prefix: str) -> None:
    dm.create(prefix + "d", "")
    impatient = LibDm(sleep=_no_sleep)
    impatient.resume(prefix + "d")  # no table: no event
    impatient.remove(prefix + "d")  # never had a table: no event


def test_a_missed_deadline_is_a_warning_and_the_call_has_happened(
    dm: LibDm, prefix: str, busy_udev: None, left: Left, caplog: pytest.LogCaptureFixture
) -> None:
    del busy_udev
    name = made(dm, prefix + "d")
    LibDm(udev_deadline=SHORT).resume(name)
    assert "udev did not finish with resume of" in caplog.text
    assert not left()
    assert info_of(dm, name).live_table
    dm.mknodes(name)
    assert node(name).exists()


def test_an_interrupted_wait_leaves_no_semaphore(dm: LibDm, prefix: str, busy_udev: None, left: Left) -> None:
    del busy_udev
    name = made(dm, prefix + "d")
    with pytest.raises(KeyboardInterrupt):
        LibDm(sleep=_interrupt).resume(name)
    assert not left()


def test_a_cookie_that_somebody_completed_ends_the_wait(dm: LibDm, prefix: str, busy_udev: None) -> None:
    del busy_udev
    name = made(dm, prefix + "d")
    LibDm(sleep=lambda _: _complete_all(), udev_deadline=20).resume(name)


def test_without_udev_the_library_makes_and_removes_the_nodes(dm: LibDm, prefix: str) -> None:
    alone = LibDm(udev_control="/nonexistent", sleep=_no_sleep)
    path = node(made(dm, prefix + "d"))
    alone.resume(path.name)
    assert path.is_block_device()
    run("udevadm", "settle")  # which here does run, and makes its own
    alone.remove(path.name)
    assert not path.is_block_device()


def _no_sleep(_seconds: float) -> None:
    raise AssertionError("waited for udev")


def _interrupt(_seconds: float) -> None:
    raise KeyboardInterrupt


def _complete_all() -> None:
    run("dmsetup", "udevcomplete_all", "--yes")

"""A pool has one metadata snapshot at a time, and the daemon releases only one that this store has reserved."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Calls, simulated_kernel
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

NEW = Key(POOL, "new")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path) as daemon:
        daemon.declare(pool_record(), device_record("a"), device_record("b"))
        daemon.settle()
        yield daemon


def message(daemon: SimulatedDaemon, text: str) -> None:
    simulated_kernel(daemon.host).dm.message(POOL, text)


def is_held(daemon: SimulatedDaemon) -> bool:
    return daemon.host.image(POOL).held is not None


def test_anothers_is_left_and_waited_for_with_the_reason(daemon: SimulatedDaemon) -> None:
    message(daemon, "reserve_metadata_snap")
    daemon.kill()
    daemon.start()  # a daemon that knows the ids already does not read them again
    daemon.also(device_record("new"))
    daemon.run(40)
    assert is_held(daemon)
    assert NEW.device not in daemon.store.known_devices(POOL)
    told = daemon.store.statuses()[NEW].message
    assert "another program holds the pool's metadata snapshot" in told
    assert f"`dmsetup message {POOL} 0 release_metadata_snap`" in told
    message(daemon, "release_metadata_snap")
    daemon.run(60)
    daemon.settle()
    assert NEW.device in daemon.store.known_devices(POOL)
    assert not is_held(daemon)


def test_one_that_a_crash_left_is_released_as_the_store_knows_of_it(daemon: SimulatedDaemon) -> None:
    daemon.store.reserved.note(POOL, reserved=True)
    message(daemon, "reserve_metadata_snap")
    daemon.kill()
    daemon.start()
    daemon.also(device_record("new"))
    daemon.run(40)
    daemon.settle()
    assert not is_held(daemon)
    assert NEW.device in daemon.store.known_devices(POOL)
    assert POOL not in daemon.store.reserved


def test_a_note_ends_with_what_it_is_of(daemon: SimulatedDaemon) -> None:
    """Otherwise the snapshot that another program reserves next would count as ours."""
    daemon.store.reserved.note(POOL, reserved=True)
    daemon.run(30)
    assert POOL not in daemon.store.reserved


def test_no_pool_is_deleted_while_another_program_reads_it(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(), *(device_record(name, state="Absent") for name in ("a", "b")))
    daemon.settle()
    message(daemon, "reserve_metadata_snap")
    daemon.declare(pool_record(state="Absent"))
    daemon.run(40)
    assert POOL in daemon.host.devices.by_name
    assert is_held(daemon)
    message(daemon, "release_metadata_snap")
    daemon.run(400)
    assert POOL not in daemon.host.devices.by_name


def test_a_look_that_failed_before_it_reserved_one_leaves_no_note(daemon: SimulatedDaemon) -> None:
    """Otherwise a snapshot that another program has reserved meanwhile would count as ours."""
    failed: list[Call] = []

    def fail(call: Call) -> None:
        if POOL in daemon.store.reserved and not failed:
            failed.append(call)
            message(daemon, "reserve_metadata_snap")
            raise HostError(call.name, POOL, errno.EIO)

    daemon.kill()
    daemon.start(Calls(before=fail))
    daemon.also(device_record("new"))
    daemon.run(40)
    assert failed
    assert is_held(daemon)
    assert POOL not in daemon.store.reserved


def test_one_whose_release_failed_is_released_later(daemon: SimulatedDaemon) -> None:
    failed: list[Call] = []

    def fail(call: Call) -> None:
        if call.name == "message" and call.args[1] == "release_metadata_snap" and not failed:
            failed.append(call)
            raise HostError("message", POOL, errno.EBUSY)

    daemon.kill()
    daemon.start(Calls(before=fail))
    daemon.also(device_record("new"))
    daemon.run(40)
    assert failed
    assert not is_held(daemon)
    assert POOL not in daemon.store.reserved

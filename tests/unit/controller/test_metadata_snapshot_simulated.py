"""A pool has one metadata snapshot at a time: only one that this store reserved is released by it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Calls, simulated_kernel
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from tests.simulation.house import POOL, House, a_house, device_record, pool_record

NEW = Key(POOL, "new")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path) as home:
        home.declare(pool_record(), device_record("a"), device_record("b"))
        home.settle()
        yield home


def message(home: House, text: str) -> None:
    simulated_kernel(home.host).dm.message(POOL, text)


def is_held(home: House) -> bool:
    return home.host.image(POOL).held is not None


def test_anothers_is_left_and_waited_for_with_the_reason(home: House) -> None:
    message(home, "reserve_metadata_snap")
    home.kill()
    home.start()  # whoever knows the ids already goes on with what it knows
    home.also(device_record("new"))
    home.run(40)
    assert is_held(home)
    assert NEW.device not in home.store.known_devices(POOL)
    told = home.store.statuses()[NEW].message
    assert "another program holds the pool's metadata snapshot" in told
    assert f"`dmsetup message {POOL} 0 release_metadata_snap`" in told
    message(home, "release_metadata_snap")
    home.run(60)
    home.settle()
    assert NEW.device in home.store.known_devices(POOL)
    assert not is_held(home)


def test_one_that_a_crash_left_is_released_as_the_store_knows_of_it(home: House) -> None:
    home.store.reserved.note(POOL, reserved=True)
    message(home, "reserve_metadata_snap")
    home.kill()
    home.start()
    home.also(device_record("new"))
    home.run(40)
    home.settle()
    assert not is_held(home)
    assert NEW.device in home.store.known_devices(POOL)
    assert POOL not in home.store.reserved


def test_a_note_ends_with_what_it_is_of(home: House) -> None:
    """Else the snapshot that another program reserves next would pass for ours."""
    home.store.reserved.note(POOL, reserved=True)
    home.run(30)
    assert POOL not in home.store.reserved


def test_no_pool_is_deleted_while_another_program_reads_it(home: House) -> None:
    home.declare(pool_record(), *(device_record(name, state="Absent") for name in ("a", "b")))
    home.settle()
    message(home, "reserve_metadata_snap")
    home.declare(pool_record(state="Absent"))
    home.run(40)
    assert POOL in home.host.devices.by_name
    assert is_held(home)
    message(home, "release_metadata_snap")
    home.run(400)
    assert POOL not in home.host.devices.by_name


def test_a_look_that_failed_before_it_reserved_one_leaves_no_note(home: House) -> None:
    """Else the snapshot that another program reserved meanwhile would pass for ours."""
    failed: list[Call] = []

    def fail(call: Call) -> None:
        if POOL in home.store.reserved and not failed:
            failed.append(call)
            message(home, "reserve_metadata_snap")
            raise HostError(call.name, POOL, errno.EIO)

    home.kill()
    home.start(Calls(before=fail))
    home.also(device_record("new"))
    home.run(40)
    assert failed
    assert is_held(home)
    assert POOL not in home.store.reserved


def test_one_whose_release_failed_is_released_later(home: House) -> None:
    failed: list[Call] = []

    def fail(call: Call) -> None:
        if call.name == "message" and call.args[1] == "release_metadata_snap" and not failed:
            failed.append(call)
            raise HostError("message", POOL, errno.EBUSY)

    home.kill()
    home.start(Calls(before=fail))
    home.also(device_record("new"))
    home.run(40)
    assert failed
    assert not is_held(home)
    assert POOL not in home.store.reserved

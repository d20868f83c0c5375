"""What fails or fills up below a pool between the scan of a pass and its step: nothing is made, and nothing leaks."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.kernel.simulated import Call
from reconciler.kernel.simulated.pool import Mode
from reconciler.model.conditions import Reason
from reconciler.model.errors import HostError
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

EXT4 = {"type": "ext4"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    """A pool with an active device."""
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a", size="64MiB"))
        daemon.settle()
        yield daemon


@pytest.mark.parametrize("spec", [{"filesystem": EXT4}, {}, {"snapshotOf": "a"}])
def test_on_a_data_disk_that_cannot_be_read_nothing_is_made(home: SimulatedDaemon, spec: dict[str, Any]) -> None:
    ids, transaction = set(home.ids()), home.host.image(POOL).transaction_id

    def fail(call: Call) -> None:
        if call.name == "read":
            raise HostError("read", str(call.args[0]), errno.EIO)

    home.calls.before = fail
    home.also(device_record("b", **spec))
    home.run(60)
    assert home.status("b").reason is Reason.KERNEL_ERROR
    assert "the disk below the pool's data" in home.status("b").message
    assert (set(home.ids()), home.host.image(POOL).transaction_id) == (ids, transaction)
    assert not home.store.intents(POOL)
    home.calls.before = lambda _: None
    home.run(400)
    assert home.status("b").reason is Reason.CONVERGED
    assert len(home.ids()) == len(ids) + 1


def test_no_origin_is_suspended_in_a_pool_that_has_just_filled_up(home: SimulatedDaemon) -> None:
    """The writes wait for the pool to grow, the suspend waits for the writes, and the growing waits for the suspend."""
    suspended: list[str] = []

    def fill(call: Call) -> None:
        if call.name == "BeginIntent":
            number = 0
            while home.host.pool(POOL).mode is Mode.WRITE:
                home.host.io.write("tank-a", number, "x")
                number += 1

    def watch(call: Call) -> None:
        if call.name == "suspend":
            suspended.append(str(call.args[0]))

    home.calls.after, home.calls.before = fill, watch
    home.also(device_record("b", snapshotOf="a"))
    home.run(30)
    assert home.host.pool(POOL).mode is Mode.OUT_OF_DATA_SPACE
    assert suspended == []
    assert not home.store.intents(POOL)
    assert home.status("b").reason is Reason.POOL_UNHEALTHY


def fill(home: SimulatedDaemon) -> None:
    number = 0
    while home.host.pool(POOL).mode is Mode.WRITE:
        home.host.io.write("tank-a", number, "x")
        number += 1


def test_a_full_pool_deletes_what_is_absent_and_goes_on(home: SimulatedDaemon) -> None:
    home.also(device_record("b"))
    home.settle()
    home.host.io.write("tank-b", 0, "b")
    fill(home)
    home.run(3)
    assert home.status("", POOL).reason is Reason.POOL_UNHEALTHY
    home.also(device_record("b", state="Absent"))
    home.run(60)
    assert home.status("b").reason is Reason.CONVERGED
    assert home.host.pool(POOL).mode is Mode.WRITE


def test_metadata_that_is_full_grows_with_its_record_while_the_pool_is_up(home: SimulatedDaemon) -> None:
    number = 1000
    while home.host.pool(POOL).mode is Mode.WRITE:
        home.outside.dm.message(POOL, f"create_thin {number}")
        number += 1
    home.run(3)
    status = home.status("", POOL)
    assert status.reason is Reason.POOL_UNHEALTHY
    assert "metadata of pool tank is full" in status.message
    home.also(device_record("c"))
    home.run(3)
    assert home.status("c").reason is Reason.POOL_UNHEALTHY
    home.also(pool_record(metadata={"file": "/srv/tank.meta", "size": "64MiB"}))
    home.run(60)
    assert home.host.pool(POOL).mode is Mode.WRITE
    assert home.status("c").reason is Reason.CONVERGED


def test_after_the_kernels_timeout_it_is_said_that_writes_fail(home: SimulatedDaemon) -> None:
    fill(home)
    home.host.no_space_timeout(POOL)
    home.run(3)
    assert "no_space_timeout" in home.status("", POOL).message

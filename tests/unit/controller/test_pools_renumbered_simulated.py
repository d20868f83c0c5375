"""Disks that the kernel numbers differently at the next boot, and a disk of the same size in place of the pool's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.conditions import Reason, Status
from reconciler.model.names import Key
from tests.simulation.simulated_daemon import SimulatedDaemon, a_simulated_daemon, device_record, pool_record

MIB = 1024 * 1024
OURS, THEIRS = "sdx", "sdy"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        yield daemon


def _live_on_disks(daemon: SimulatedDaemon, ours: str, theirs: str) -> None:
    one = daemon.host.add_disk(OURS, 16 * MIB, ours)
    other = daemon.host.add_disk(THEIRS, 16 * MIB, theirs)
    daemon.host.blocks[other].disk.signature = "ext4"
    daemon.declare(pool_record("tank", data={"device": f"/dev/{OURS}"}), device_record("a"))
    daemon.settle()
    assert daemon.host.io.write("tank-a", 0, "ours")
    daemon.host.io.flush("tank-a")
    daemon.run(20)
    daemon.power_cut()
    daemon.host.renumber(one, other)


def _status(daemon: SimulatedDaemon) -> Status:
    return daemon.recorder.statuses()[Key("tank")]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("S1", "S2"), ("", "")], ids=["with serials", "with nothing to know them by"]
)
def test_a_disk_in_place_of_another_is_never_written_to(daemon: SimulatedDaemon, ours: str, theirs: str) -> None:
    _live_on_disks(daemon, ours, theirs)
    daemon.run(60)
    assert daemon.info("tank") is None
    assert _status(daemon).reason is Reason.METADATA_MISMATCH
    if ours:
        assert f"/dev/{THEIRS} now" in _status(daemon).message
    assert all(disk.disk.head == b"" for disk in daemon.host.blocks.values() if disk.disk.signature)


def test_the_right_disk_by_its_new_name_is_taken_up(daemon: SimulatedDaemon) -> None:
    _live_on_disks(daemon, "S1", "S2")
    daemon.declare(pool_record("tank", data={"device": f"/dev/{THEIRS}"}), device_record("a"))
    daemon.settle()
    assert daemon.content("a") == {0: "ours"}

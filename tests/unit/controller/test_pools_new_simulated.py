"""A new pool overwrites nothing that somebody may miss: the content of a disk is checked before it has a pool."""

from __future__ import annotations

from pathlib import Path

from reconciler.model.conditions import Reason
from reconciler.model.names import Key
from tests.simulation.host import PlayedHost
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, device_record, pool_record

MIB = 1 << 20


def on_disks(tmp_path: Path, *, signature: str) -> SimulatedDaemon:
    host = PlayedHost()
    data = host.add_disk("sda", 16 * MIB)
    host.add_disk("sdb", 4 * MIB)
    host.disk_of(data).signature = signature
    daemon = SimulatedDaemon(tmp_path / "state", host)
    data_at, metadata_at = {"device": "/dev/sda"}, {"device": "/dev/sdb"}
    daemon.declare(pool_record(data=data_at, metadata=metadata_at), device_record("a"))
    return daemon


def test_no_pool_is_made_on_a_disk_that_carries_a_filesystem(tmp_path: Path) -> None:
    daemon = on_disks(tmp_path, signature="ext4")
    daemon.run(20)
    daemon.kill()
    status = daemon.recorder.statuses()[Key(POOL)]
    assert status.reason is Reason.CONFLICT
    assert "ext4" in status.message
    assert daemon.info(POOL) is None


def test_one_is_made_on_a_disk_that_carries_nothing(tmp_path: Path) -> None:
    daemon = on_disks(tmp_path, signature="")
    daemon.settle()
    daemon.kill()
    assert daemon.info(POOL) is not None

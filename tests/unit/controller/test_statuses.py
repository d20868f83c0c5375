"""The status of a pool: the size to which it may grow by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.conditions import PoolStatusReport
from reconciler.model.units import Bytes
from reconciler.planner.pool_shape import METADATA_MOST
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, pool_record

MIB = 1024 * 1024


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        yield daemon


def pool_status(daemon: SimulatedDaemon) -> PoolStatusReport:
    status = daemon.status("", POOL)
    assert isinstance(status, PoolStatusReport)
    return status


def test_a_pool_that_may_not_grow_is_limited_to_its_size(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record())
    daemon.settle()
    status = pool_status(daemon)
    assert status.data_limit == status.data_size == 16 * MIB
    assert status.metadata_limit == status.metadata_size


def test_a_pool_that_grows_is_limited_to_what_its_record_and_the_kernel_let_it(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(extend={"threshold": "80%", "step": "20%", "max": "64MiB"}))
    daemon.settle()
    assert pool_status(daemon).data_limit == 64 * MIB
    assert pool_status(daemon).metadata_limit == METADATA_MOST


def test_a_pool_that_is_larger_than_it_may_become_is_limited_to_its_size(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(data={"file": "/srv/tank.data", "size": "32MiB"}))
    daemon.settle()
    daemon.declare(pool_record(extend={"threshold": "80%", "step": "20%", "max": "16MiB"}))
    daemon.settle()
    assert pool_status(daemon).data_limit == pool_status(daemon).data_size == 32 * MIB


def test_a_pool_that_is_not_live_has_no_limit_that_anybody_could_tell(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(state="Inactive", extend={"threshold": "80%", "step": "20%", "max": "64MiB"}))
    daemon.settle()
    limits: tuple[Bytes | None, ...] = (pool_status(daemon).data_limit, pool_status(daemon).metadata_limit)
    assert limits == (None, None)

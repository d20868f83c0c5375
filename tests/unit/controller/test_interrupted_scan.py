"""A scan that fails half-way has reported nothing of what it saw, so the next scan reports it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Calls, SimulatedHost, simulated_kernel
from reconciler.kernel.worker.scan import PoolScanner
from reconciler.model.dm_tables import Target
from reconciler.model.errors import HostError
from reconciler.model.live import ScanRequest, ScanScope
from reconciler.model.units import Sectors

NAME = "tank-a"


class Failing:
    """Fails one call of this name, after the scan has seen all devices."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.armed = False

    def __call__(self, call: Call) -> None:
        if self.armed and call.name == self.name:
            self.armed = False
            raise HostError(call.name, "", errno.EIO)


@pytest.mark.parametrize("before", [0, 2], ids=["the first look", "a later look"])
def test_what_a_failed_look_saw_is_told_by_the_next(before: int) -> None:
    failing = Failing("stands_on")
    kernel = simulated_kernel(SimulatedHost(), Calls(before=failing))
    observer = PoolScanner(kernel, ScanScope("tank", None, None, frozenset({NAME})), Path("/var/lib"))
    for _ in range(before):
        observer.look(ScanRequest())
    kernel.dm.create(NAME, "DMR-a")
    kernel.dm.load(NAME, (Target(Sectors(0), Sectors(2048), "error", ""),))
    kernel.dm.resume(NAME)
    failing.armed = True
    with pytest.raises(HostError):
        observer.look(ScanRequest(thorough=True))
    assert NAME in observer.look(ScanRequest()).devices

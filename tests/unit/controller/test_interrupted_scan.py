"""A scan that fails half-way has reported nothing of what it saw, so the next scan reports it. What changes during a scan is
seen as it is in the end.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.kernel.protocol import DeviceMapper
from reconciler.kernel.simulated import Call, Calls, SimulatedHost, simulated_kernel
from reconciler.kernel.worker.scan import PoolScanner
from reconciler.model.dm_tables import Target
from reconciler.model.errors import HostError
from reconciler.model.live import ScanRequest, ScanScope
from reconciler.model.units import Sectors
from tests.simulation.host import PlayedHost

NAME = "tank-a"
RENAMED = "tank-a.old"


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


class Meddler:
    """Does something to a device just before the scan asks for it, so many times."""

    def __init__(self, does: Callable[[], None], times: int = 1) -> None:
        self._does = does
        self.left = 0
        self._times = times

    def arm(self) -> None:
        self.left = self._times

    def __call__(self, call: Call) -> None:
        if self.left and call.name == "info" and call.args[0] == NAME:
            self.left -= 1
            self._does()


def scanner_with(host: PlayedHost, meddler: Meddler) -> PoolScanner:
    kernel = simulated_kernel(host, Calls(before=meddler))
    make(simulated_kernel(host).dm)
    return PoolScanner(kernel, ScanScope("tank", None, None, frozenset({NAME, RENAMED})), Path("/var/lib"))


def make(dm: DeviceMapper) -> None:
    dm.create(NAME, "DMR-a")
    dm.load(NAME, (Target(Sectors(0), Sectors(2048), "error", ""),))
    dm.resume(NAME)


@pytest.mark.parametrize("before", [0, 2], ids=["the first scan", "a later scan"])
def test_a_device_that_is_renamed_during_a_scan_is_found_under_its_new_name(before: int) -> None:
    """Else it would pass for not live, and a snapshot of its thin would be taken while it is written to."""
    host = PlayedHost()
    meddler = Meddler(lambda: host.rename(NAME, RENAMED))
    scanner = scanner_with(host, meddler)
    for _ in range(before):
        scanner.look(ScanRequest())
    meddler.arm()
    scan = scanner.look(ScanRequest())
    assert RENAMED in scan.devices
    assert NAME not in scan.devices
    assert (NAME in scan.gone) == bool(before)


def test_a_device_that_is_renamed_is_found_also_by_a_scan_of_its_former_name_alone() -> None:
    host = PlayedHost()
    meddler = Meddler(lambda: host.rename(NAME, RENAMED))
    scanner = scanner_with(host, meddler)
    scanner.look(ScanRequest())
    meddler.arm()
    assert RENAMED in scanner.look(ScanRequest(names=frozenset({NAME}))).devices


def test_a_device_that_is_made_anew_during_a_scan_is_seen_as_it_is_now() -> None:
    host = PlayedHost()
    dm = simulated_kernel(host).dm
    meddler = Meddler(lambda: dm.remove(NAME))
    scanner = scanner_with(host, meddler)
    listed = scanner._index.list_again

    def anew() -> None:
        if host.devices.by_name.get(NAME) is None:
            make(dm)
        listed()

    scanner._index.list_again = anew  # type: ignore[method-assign]
    meddler.arm()
    assert NAME in scanner.look(ScanRequest(thorough=True)).devices


def test_a_scan_of_devices_that_come_and_go_without_end_says_so() -> None:
    host = PlayedHost()
    dm = simulated_kernel(host).dm
    meddler = Meddler(lambda: dm.remove(NAME), times=100)
    scanner = scanner_with(host, meddler)
    listed = scanner._index.list_again

    def anew() -> None:
        if host.devices.by_name.get(NAME) is None:
            make(dm)
        listed()

    scanner._index.list_again = anew  # type: ignore[method-assign]
    meddler.arm()
    with pytest.raises(HostError, match="again and again"):
        scanner.look(ScanRequest())
    meddler.left = 0
    assert NAME in scanner.look(ScanRequest()).devices

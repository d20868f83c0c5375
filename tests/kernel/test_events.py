"""What is announced on a real kernel, and what is not."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

import pytest

from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.monitor import BlockEvent, DmEvents, UdevMonitor, changed
from reconciler.model.dm_tables import Target
from reconciler.model.errors import HostError
from reconciler.model.units import Sectors
from tests.testing.real_kernel import ERROR, TestPool, devno_of, info_of, run

LONGER = Target(Sectors(0), Sectors(4096), "error", "")


def readable(source: DmEvents | UdevMonitor, seconds: float = 0.0) -> bool:
    return bool(select.select([source], [], [], seconds)[0])


@pytest.fixture
def events() -> Iterator[DmEvents]:
    with DmEvents() as opened:
        yield opened


@pytest.fixture
def monitor() -> Iterator[UdevMonitor]:
    run("udevadm", "settle")
    opened = UdevMonitor()
    yield opened
    opened.close()


def heard(monitor: UdevMonitor, name: str) -> list[BlockEvent]:
    """The library waited for udev's rules; the event itself is sent right after them."""
    run("udevadm", "settle")
    received = monitor.receive()
    assert not received.overflow
    return [event for event in received.events if event.dm_name == name]


class TestControlDevice:
    def test_wakes_until_it_is_armed_again(self, dm: LibDm, events: DmEvents, prefix: str) -> None:
        assert not readable(events)
        dm.create(prefix + "d", "")
        assert readable(events)
        assert readable(events)
        events.arm()
        assert not readable(events)

    def test_the_difference_of_two_lists_tells_who_it_was(self, dm: LibDm, prefix: str) -> None:
        dm.create(prefix + "a", "")
        dm.create(prefix + "b", "")
        before = dm.list_all()
        assert changed(before, dm.list_all()) == set()
        run("dmsetup", "rename", prefix + "a", prefix + "c")
        assert changed(before, dm.list_all()) == {prefix + "a", prefix + "c"}

    def test_what_it_tells_and_what_it_does_not(self, dm: LibDm, events: DmEvents, prefix: str) -> None:
        name = prefix + "d"

        def woke(call: Callable[..., object], *words: object) -> bool:
            events.arm()
            call(*words)
            return readable(events)

        assert woke(dm.create, name, "")
        assert not woke(dm.load, name, (ERROR,))
        assert woke(dm.resume, name)
        assert not woke(dm.suspend, name)
        assert not woke(dm.resume, name)
        assert not woke(dm.load, name, (ERROR,))
        assert not woke(dm.clear, name)
        assert woke(run, "dmsetup", "rename", name, prefix + "e")
        assert woke(dm.remove, prefix + "e")

    def test_a_pool_that_runs_full_wakes_it(
        self,
        dm: LibDm,
        events: DmEvents,
        monitor: UdevMonitor,
        make_pool: Callable[..., TestPool],
        make_thin: Callable[..., str],
    ) -> None:
        pool = make_pool(thins=(0,), data=4 * 2**20, error_if_full=True)
        thin = make_thin(pool, 0, size=16 * 2**20)
        before = dm.list_all()
        run("udevadm", "settle")
        monitor.receive()
        events.arm()
        run("dd", "if=/dev/zero", f"of=/dev/mapper/{thin}", "bs=1M", "oflag=direct", check=False)
        assert readable(events, 5.0)
        assert pool.name in changed(before, dm.list_all())
        assert dm.status(pool.name)[0][1].split()[4] == "out_of_data_space"
        assert heard(monitor, pool.name) == []

    def test_without_a_control_device_it_says_so(self) -> None:
        with pytest.raises(HostError, match="ENOENT"):
            DmEvents("/dev/mapper/nonexistent")


class TestUdevMonitor:
    def test_a_device_comes_changes_and_goes(self, dm: LibDm, monitor: UdevMonitor, prefix: str) -> None:
        name = prefix + "d"
        dm.create(name, "DMR-" + prefix)
        assert heard(monitor, name) == []
        dm.load(name, (ERROR,))
        dm.resume(name)
        came = heard(monitor, name)
        assert [event.action for event in came] == ["change"]  # the add came before the device could be asked its name
        number = info_of(dm, name).devno
        assert came[-1] == BlockEvent("change", number, name)
        dm.remove(name)
        assert [event.action for event in heard(monitor, name)] == ["remove"]

    def test_a_suspension_says_nothing(self, dm: LibDm, monitor: UdevMonitor, prefix: str) -> None:
        name = prefix + "d"
        dm.create(name, "")
        dm.load(name, (ERROR,))
        dm.resume(name)
        heard(monitor, name)
        dm.suspend(name)
        assert heard(monitor, name) == []
        dm.resume(name)
        assert [event.action for event in heard(monitor, name)] == ["change"]

    def test_receiving_never_waits(self, monitor: UdevMonitor) -> None:
        started = time.monotonic()
        assert monitor.receive().events == ()
        assert time.monotonic() - started < 1.0

    def test_lost_events_are_told_and_it_hears_again_afterwards(self, dm: LibDm, prefix: str) -> None:
        small = UdevMonitor(buffer=1)  # the kernel makes it a few KiB
        for number in range(8):
            name = f"{prefix}{number}"
            dm.create(name, "")
            dm.load(name, (ERROR,))
            dm.resume(name)
        run("udevadm", "settle")
        assert readable(small)
        assert small.receive().overflow
        assert not small.receive().overflow
        dm.remove(f"{prefix}0")
        run("udevadm", "settle")
        assert [event.action for event in small.receive().events][:1] == ["remove"]
        small.close()

    def test_events_of_other_block_devices_have_no_dm_name(
        self, monitor: UdevMonitor, make_loop: Callable[..., object]
    ) -> None:
        node = str(make_loop("disk"))
        run("udevadm", "settle")
        found = [event for event in monitor.receive().events if event.devno == devno_of(node)]
        assert found
        assert {event.dm_name for event in found} == {""}

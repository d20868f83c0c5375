"""The real host's kernel, put together from its parts. Constructing it opens nothing.

udev's view of devices comes through pyudev (libudev). Observed with udev 252 and the device-mapper rules 1.02.185, and
tested by tests/kernel/test_udev.py: a synthetic change event restores every link of a device that was activated with
its rules on, in /dev/mapper and in /dev/disk; the rules then take their flags from udev's database (10-dm.rules,
"spurious events"). `add` works too, and `change` also if the database knows nothing of the device. udev does not
replace a node in /dev/mapper that stands where a link should be; libdevmapper's mknodes does.

`HostDisks` hands each call to the file that answers it.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from functools import cached_property
from pathlib import Path
from typing import Final

import pyudev

from reconciler.kernel.block import disk_marks, files, loops
from reconciler.kernel.block.files import contents_of, signature_of
from reconciler.kernel.block.holders import (
    devices_above,
    devices_below,
    devices_under,
    file_behind,
    is_read_only,
    mounts_of,
    node_of_device,
    processes_using,
    sector_size,
    set_writable,
    writers_of,
)
from reconciler.kernel.block.loops import sysfs, told_as
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.locks import alone_on
from reconciler.kernel.nodes import UDEV_CONTROL, in_the_way, leads_to, node_of, udevd_listens, why_udevd_is_silent
from reconciler.kernel.privileges import unwritten_bytes
from reconciler.kernel.programs import HostTools
from reconciler.kernel.protocol import Kernel
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError, WorkerTimeoutError
from reconciler.model.live import DeviceInfo

_CONTROL: Final = UDEV_CONTROL
_DEADLINE: Final = 10.0
"""Seconds that udev's rules may take for one event."""


class HostUdev:
    """Implements `kernel.protocol.Udev`. It must run in the host's network namespace to receive udev's events."""

    @cached_property
    def _context(self) -> pyudev.Context:
        return pyudev.Context()

    @cached_property
    def _promised(self) -> dict[Devno, tuple[int, list[str]]]:
        """By device: when udev last wrote its entry, and the links that the entry promised then."""
        return {}

    def running(self) -> bool:
        return udevd_listens(_CONTROL)

    def why_not(self) -> str:
        return why_udevd_is_silent()

    def missing(self, info: DeviceInfo) -> tuple[str, ...]:
        node = node_of(info.name)
        lost = () if leads_to(node) == info.devno else (node,)
        links = [link for link in self._links(info.devno) if link != node]
        return (*lost, *(link for link in links if not self._is_right(link, info.devno)))

    def in_the_way(self, path: str) -> str | None:
        return in_the_way(path)

    def trigger(self, devno: Devno) -> None:
        if not self.running():
            raise HostError("look again at", str(devno), errno.ECONNREFUSED, "udev is not running")
        for link in self._links(devno):
            if _is_circle(link):  # udev 252 corrects such a link, 257 leaves it
                with told_as("remove", link):
                    Path(link).unlink(missing_ok=True)
        # The kernel passes this on as SYNTH_UUID: Documentation/ABI/testing/sysfs-uevent, Linux 4.13 and later.
        mark = str(uuid.uuid4())
        with told_as("look again at", str(devno)):
            monitor = pyudev.Monitor.from_netlink(self._context, source="udev")
            monitor.filter_by("block")
            monitor.start()
            (sysfs(devno) / "uevent").write_text(f"change {mark}", encoding="ascii")
            _wait_for(monitor, mark, devno)

    def _is_right(self, link: str, devno: Devno) -> bool:
        there = leads_to(link)
        if there is None or there == devno:
            return there == devno
        return link in self._links(there)

    def _links(self, devno: Devno) -> list[str]:
        """The links that udev's database promises; none if it does not know the device (yet)."""
        written = _written(devno)
        if written is None:
            return []
        before = self._promised.get(devno)
        if before is None or before[0] != written:
            before = self._promised[devno] = (written, self._read_links(devno))
        return before[1]

    def _read_links(self, devno: Devno) -> list[str]:
        number = os.makedev(devno.major, devno.minor)
        try:
            device = pyudev.Devices.from_device_number(self._context, "block", number)
        except pyudev.DeviceNotFoundError:
            return []
        return sorted(device.device_links) if device.is_initialized else []


def _written(devno: Devno) -> int | None:
    """When udev last wrote its entry for the device (systemd: src/libsystemd/sd-device); None without an entry."""
    try:
        return os.stat(f"/run/udev/data/b{devno}").st_mtime_ns  # noqa: PTH116  # a Path costs more than the call
    except FileNotFoundError:
        return None


def _is_circle(path: str) -> bool:
    """Whether the symbolic link leads back to itself, and so to no device."""
    try:
        os.stat(path)  # noqa: PTH116  # as above
    except OSError as error:
        return error.errno == errno.ELOOP and os.path.islink(path)  # noqa: PTH114
    return False


def _wait_for(monitor: pyudev.Monitor, mark: str, devno: Devno) -> None:
    end = time.monotonic() + _DEADLINE
    while (left := end - time.monotonic()) > 0:
        event = monitor.poll(left)
        if event is not None and event.properties.get("SYNTH_UUID") == mark:
            return
    raise WorkerTimeoutError(
        "look again at", str(devno), errno.ETIMEDOUT, f"udev has not answered in {_DEADLINE:.0f} s"
    )


class HostDisks:
    """Implements `kernel.protocol.Disks` by handing each call to the function that answers it. Stateless."""

    kind = staticmethod(files.kind)
    node = staticmethod(node_of_device)
    file_facts = staticmethod(files.file_facts)
    folder_exists = staticmethod(files.folder_exists)
    make_file = staticmethod(files.make_file)
    grow_file = staticmethod(files.grow_file)
    delete_file = staticmethod(files.delete_file)
    read = staticmethod(files.read)
    zero = staticmethod(files.zero)
    set_writable = staticmethod(set_writable)
    loops_on = staticmethod(loops.loops_on)
    attach = staticmethod(loops.attach)
    resize_loop = staticmethod(loops.resize)
    detach = staticmethod(loops.detach)
    signature = staticmethod(signature_of)
    contents = staticmethod(contents_of)
    marks = staticmethod(disk_marks.marks)
    whereabouts = staticmethod(disk_marks.whereabouts)
    read_only = staticmethod(is_read_only)
    sector = staticmethod(sector_size)
    behind = staticmethod(file_behind)
    writers = staticmethod(writers_of)
    mounts = staticmethod(mounts_of)
    above = staticmethod(devices_above)
    alone_on = staticmethod(alone_on)
    processes = staticmethod(processes_using)
    below = staticmethod(devices_below)
    unwritten = staticmethod(unwritten_bytes)
    stands_on = staticmethod(devices_under)


def host_kernel() -> Kernel:
    """The kernel of this host. Raises HostError if libdevmapper is missing or too old."""
    return Kernel(dm=LibDm(), disks=HostDisks(), tools=HostTools(), udev=HostUdev())

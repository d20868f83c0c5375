"""A pool, its files and the reconciler's state in one folder, and what is asked of them past the reconciler."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.kernel.host import host_kernel
from reconciler.kernel.programs import run
from reconciler.kernel.steps.dm_operations import activate
from reconciler.kernel.steps.table import run_step
from reconciler.model.dm_tables import PoolStatus, Target, ThinTable, read_pool_status
from reconciler.model.errors import HostError
from reconciler.model.live import DeviceInfo
from reconciler.model.records import API_VERSION, ThinDevice, ThinPool
from reconciler.model.steps import Activate, ActivatePool
from reconciler.model.stored import StoredDevice
from reconciler.planner.pool_shape import shape_of
from reconciler.store.store import Store

CLOSED_WITHIN = 10.0
"""Seconds that udev may have a device open."""


class Site:
    """The records in it lead to files in it, so a copy of the files goes back to the same folder."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self.pool = prefix + "tank"
        self.data = folder / "data"
        self.metadata = folder / "metadata"
        self.state = folder / "state"
        self.kernel = host_kernel()
        self.dm, self.disks, self.tools = self.kernel.dm, self.kernel.disks, self.kernel.tools

    # Records

    def pool_record(self, **spec: Any) -> ThinPool:
        places = {
            "data": {"file": str(self.data), "size": "32MiB"},
            "metadata": {"file": str(self.metadata), "size": "4MiB"},
        }
        return ThinPool.model_validate(_document("ThinPool", self.pool, {**places, **spec}))

    def device_record(self, name: str, **spec: Any) -> ThinDevice:
        """16 MiB, where nothing else is said."""
        size = {} if {"snapshotOf", "size"} & spec.keys() else {"size": "16MiB"}
        return ThinDevice.model_validate(_document("ThinDevice", name, {"pool": self.pool, **size, **spec}))

    def dm_name(self, name: str) -> str:
        return f"{self.pool}-{name}"

    # What is so

    def devices(self) -> list[DeviceInfo]:
        """All that are live under the prefix, as they were made."""
        found = (self.dm.info(listed.name) for listed in self.dm.list_all() if listed.name.startswith(self.prefix))
        return [info for info in found if info is not None]

    def status(self) -> PoolStatus:
        ((_, line),) = self.dm.status(self.pool)
        status = read_pool_status(line)
        assert isinstance(status, PoolStatus), f"pool {self.pool} is not healthy: {line}"
        return status

    @contextmanager
    def looked_at(self, device: StoredDevice) -> Iterator[str]:
        """The node of a device on the same thin that cannot be written, whether the device itself is live or not."""
        name = f"{self.prefix}look"
        activate(self.kernel, name, "", self._thin(device), read_only=True, hidden=True)
        yield f"/dev/mapper/{name}"
        self.dm.remove(name)

    def _thin(self, device: StoredDevice) -> Target:
        pool = self.dm.info(self.pool)
        assert pool is not None
        return ThinTable(device.size, pool.devno, device.thin_id).target()

    @contextmanager
    def mounted(self, name: str) -> Iterator[Path]:
        place = Path("/run", f"{self.prefix}on-{name}")
        place.mkdir(exist_ok=True)
        run(["mount", f"/dev/mapper/{self.dm_name(name)}", str(place)], name)
        try:
            yield place
        finally:
            run(["umount", str(place)], name)
            place.rmdir()

    # What a host does to it

    def up(self) -> None:
        """As the reconciler left it: files on loops, the pool, its devices. Without its help, which takes longer."""
        with Store.open_read_only(self.state) as store:
            pool, devices = store.known_pool(self.pool), store.known_devices(self.pool)
        assert pool is not None
        for path in (self.data, self.metadata):
            self.disks.attach(str(path))
        shape = shape_of(self.pool_record())
        run_step(self.kernel, ActivatePool(self.pool, pool.uuid, shape, pool.transaction_id))
        for device in devices.values():
            run_step(self.kernel, Activate(device.dm_name, device.uuid, self._thin(device), read_only=False))

    def down(self) -> None:
        """As before a boot: no device, no loop. The files stay."""
        self.remove_devices()
        for path in (self.data, self.metadata):
            if path.exists():
                for loop in self.disks.loops_on(str(path)):
                    self.disks.detach(loop)

    def let_go(self) -> None:
        """Whoever waits on a suspended device gets on, and can end."""
        for info in self.devices():  # a pool before its thins, which do not resume while it is suspended
            if info.suspended and info.live_table:
                self.dm.resume(info.name)

    def remove_devices(self) -> None:
        self.let_go()
        end = time.monotonic() + CLOSED_WITHIN
        while infos := self.devices():
            for info in reversed(infos):
                self._remove(info.name, end)

    def _remove(self, name: str, end: float) -> None:
        try:
            self.dm.remove(name)
        except HostError as fault:
            if fault.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)  # until whoever looks into it has done so

    def copy_to(self, place: Path) -> None:
        """While it is down."""
        _copy(self.folder, place)

    def copy_from(self, place: Path) -> None:
        """While it is down."""
        self.empty()
        _copy(place, self.folder)

    def empty(self) -> None:
        for path in (self.data, self.metadata):
            path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """The reconciler's state is lost."""
        shutil.rmtree(self.state, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Holes stay holes."""
    names = [str(source / name) for name in ("data", "metadata", "state")]
    run(["cp", "--archive", "--sparse=always", *names, str(target)], str(source))


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}

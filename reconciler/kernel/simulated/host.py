"""The simulated host with everything on it, and the programs that read and write on its devices.

The content of a block is a word that says who wrote it, and when.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from reconciler.kernel.simulated.device import Device
from reconciler.kernel.simulated.devices import Devices
from reconciler.kernel.simulated.faults import fault
from reconciler.kernel.simulated.machine import Machine, MetadataError
from reconciler.kernel.simulated.pool import CommitFault, Pool, ThinTarget, pool_of, thin_of
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError

HEAD: Final = 4
TAIL: Final = 5
"""The two blocks that a writer keeps equal, as a program does with its journal and its data."""
_WAITING: Final = "dd (pid 412)"
_AT_WORK: Final = "writer (pid 77)"


@dataclass(slots=True)
class Writer:
    """A program at work on a device: between its two writes the device holds half a change."""

    device: str
    version: int = 0
    half: bool = False


class Io:
    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        devices.programs = self
        self.writers: dict[str, Writer] = {}

    def write(self, name: str, number: int, token: str) -> bool:
        """Writes a block. False if the write waits, because the device is suspended or the pool is full. Raises
        HostError: EIO, ENOSPC.
        """
        device = self._devices.get("write", name)
        if device.suspended or device.internal or not self._store(device, number, token):
            device.queued.append((number, token))
            device.openers.append(_WAITING)
            return False
        return True

    def read(self, name: str, number: int) -> str:
        """Reads a block; empty if nothing was written."""
        thin = self._thin(self._devices.get("read", name))
        content = thin.pool.image.of(thin.thin_id).content
        if number in content or thin.external is None:
            return content.get(number, "")
        return self._read_external(thin.external, number)

    def _read_external(self, devno: Devno, number: int) -> str:
        """Reads from the external origin: another thin, or a disk, of which only the beginning is stored here."""
        origin = self._devices.by_devno(devno)
        if origin is not None:
            return self.read(origin.name, number)
        return self._devices.disk_of(devno).head.decode() if number == 0 else ""

    def flush(self, name: str) -> None:
        """Makes all writes durable. Unlike a message, it reports a failed commit."""
        pool = self._thin(self._devices.get("flush", name)).pool
        pool.commit()
        if pool.commit_fault is not CommitFault.NONE:
            raise fault("flush", name, errno.EIO)
        pool.write_in_place()

    def retry(self, device: Device) -> None:
        pool = pool_of(device.live)
        devices = [device] if pool is None else [thin.device for thin in pool.pool.thins]
        for each in devices:
            self._retry_one(each)

    def fail(self, device: Device) -> None:
        """Fails the writes that wait in a table, together with the table."""
        for _ in device.queued:
            device.openers.remove(_WAITING)
        device.queued.clear()

    def _retry_one(self, device: Device) -> None:
        if device.suspended or device.internal:
            return
        waiting, device.queued = device.queued, []
        for number, token in waiting:
            device.openers.remove(_WAITING)
            try:
                self.write(device.name, number, token)
            except Exception:  # noqa: BLE001, S112  # the program's trouble: its write failed
                continue

    def _store(self, device: Device, number: int, token: str) -> bool:
        thin = self._thin(device)
        return self.store(device.name, thin.pool, thin.thin_id, number, token)

    def store(self, name: str, pool: Pool, thin_id: int, number: int, token: str) -> bool:
        """Writes as `write` does, but through a device that may be removed meanwhile."""
        try:
            return pool.write(thin_id, number, token)
        except MetadataError as error:
            raise fault("write", name, error.errno) from error

    def _thin(self, device: Device) -> ThinTarget:
        thin = thin_of(device.live)
        if thin is None:
            raise fault("use", device.name, errno.EIO)
        return thin

    # Programs at work

    def begin(self, name: str) -> None:
        """Starts a program that writes to the device, half a change at each `step`.

        Raises HostError if the device is a shell, or dead: the first write fails, and the program ends.
        """
        device = self._devices.get("open", name)
        self._thin(device)
        self.writers[name] = Writer(name)
        device.openers.append(_AT_WORK)

    def end(self, name: str) -> None:
        """Ends the program: it completes its change, flushes and closes. Raises HostError if it cannot, and is then
        still at work.
        """
        self._finish(self._devices.get("close", name))
        self.flush(name)
        self.give_up(name)

    def give_up(self, name: str) -> None:
        """Ends the program as it is, perhaps in the middle of a change; its files are closed however it ends."""
        del self.writers[name]
        device = self._devices.by_name.get(name)
        if device is not None and _AT_WORK in device.openers:
            device.openers.remove(_AT_WORK)
            self._devices.closed({device.devno})

    def step(self) -> None:
        """Makes the next half change. A failed write is retried by the program, and is no error of the present call."""
        for writer in self.writers.values():
            device = self._devices.by_name.get(writer.device)
            if device is not None and not device.suspended and not device.internal:
                with suppress(HostError):
                    self._advance(writer, device)

    def settle(self, device: Device) -> None:
        with suppress(HostError):
            self._finish(device)

    def _finish(self, device: Device) -> None:
        writer = self.writers.get(device.name)
        if writer is not None and writer.half:
            self._advance(writer, device)

    def _advance(self, writer: Writer, device: Device) -> None:
        if thin_of(device.live) is None:
            return
        version = writer.version if writer.half else writer.version + 1
        if self._store(device, TAIL if writer.half else HEAD, f"v{version}"):
            writer.version, writer.half = version, not writer.half


class SimulatedHost(Machine):
    """A host with files, disks, and all that is on them. A new one is empty."""

    def boot(self) -> None:
        super().boot()
        self.devices = Devices(self)
        self.io = Io(self.devices)

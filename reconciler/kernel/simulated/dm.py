"""`DeviceMapper` of the simulated host."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.kernel.simulated.device import Loaded, node_of
from reconciler.kernel.simulated.host import SimulatedHost
from reconciler.kernel.simulated.tables import open_table
from reconciler.model.dm_tables import Devno, Table
from reconciler.model.live import DeviceInfo, Listed


class SimulatedDm:
    """One opener of /dev/mapper/control."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._seen: object = None
        """What was armed last. Booted anew, the host counts other events."""

    def versions(self) -> tuple[str, str]:
        return "1.02.185 (2022-05-18)", "4.47.0"

    def list_all(self) -> list[Listed]:
        devices = self._host.devices.by_name.values()
        return [Listed(device.name, device.devno, device.event_nr) for device in devices]

    def has_changed(self) -> bool:
        devices = self._host.devices
        before, self._seen = self._seen, (devices, devices.events)
        return before != self._seen

    def info(self, name: str) -> DeviceInfo | None:
        device = self._host.devices.by_name.get(name)
        if device is None:
            return None
        return DeviceInfo(
            name,
            device.uuid,
            device.devno,
            self._host.devices.open_count(device),
            device.event_nr,
            suspended=device.suspended,
            live_table=device.live is not None,
            inactive_table=device.inactive is not None,
            read_only=device.read_only,
            deferred_remove=device.deferred,
            internal_suspend=device.internal > 0,
        )

    def deps(self, name: str) -> list[Devno]:
        live = self._host.devices.get("deps", name).live
        return [] if live is None else list(dict.fromkeys(devno for target in live.targets for devno in target.on))

    def table(self, name: str, *, inactive: bool = False) -> Table:
        device = self._host.devices.get("table", name)
        return _lines(device.inactive if inactive else device.live)

    def status(self, name: str) -> Sequence[tuple[str, str]]:
        live = self._host.devices.get("status", name).live
        return [] if live is None else [(target.line.type, target.status()) for target in live.targets]

    def create(self, name: str, uuid: str) -> None:
        self._host.devices.create(name, uuid)

    def load(self, name: str, table: Table, *, read_only: bool = False) -> None:
        devices = self._host.devices
        device = devices.get("load", name)
        devices.load(device, open_table(devices, device, table, read_only=read_only))

    def resume(self, name: str, *, hidden: bool = False, freeze: bool = True) -> None:
        devices = self._host.devices
        device = devices.get("resume", name)
        if not freeze:
            self._host.io.fail(device)
        devices.resume(device, hidden=hidden)

    def suspend(self, name: str) -> None:
        devices = self._host.devices
        devices.suspend(devices.get("suspend", name))

    def remove(self, name: str) -> None:
        devices = self._host.devices
        devices.remove(devices.get("remove", name))

    def clear(self, name: str) -> None:
        devices = self._host.devices
        devices.clear(devices.get("clear", name))

    def message(self, name: str, text: str) -> None:
        devices = self._host.devices
        devices.message(devices.get("message", name), text)

    def mknodes(self, name: str) -> None:
        device = self._host.devices.by_name.get(name)
        if device is None:
            self._host.nodes.paths.pop(node_of(name), None)
        else:
            self._host.nodes.make(device)


def _lines(loaded: Loaded | None) -> Table:
    return () if loaded is None else tuple(target.table() for target in loaded.targets)

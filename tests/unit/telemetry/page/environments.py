"""What the page is shown from: the real HTTP server, StatusApi and recorder, over a host in memory or over what a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reconciler.controller.desired import Desired
from reconciler.controller.fact_gatherer import Settings
from reconciler.daemon.app import App
from reconciler.daemon.oneshot import host_for, simulated_client
from reconciler.daemon.status_api import StatusApi
from reconciler.kernel.protocol import DeviceMapper
from reconciler.kernel.simulated import simulated_kernel
from reconciler.model.conditions import GOOD, Condition, DeviceStatus, PoolStatusReport, Reason, Status
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.records import Record
from reconciler.model.recordset import RecordSet
from reconciler.model.units import Bytes
from reconciler.store.store import Store
from reconciler.telemetry.http.routes import StatusServer

GIB = 1 << 30
UUID = "DMR-6d0c4d2be4d14b5a9a4d7b8f20a3c1e5-"
TURN = 0.1


class Environment:
    """The daemon's side of HTTP, with nobody at work: a test says what was found."""

    def __init__(self, state_dir: Path) -> None:
        self.store = Store.open(state_dir, wall_clock=time.time)
        self.simulated = self._wired(state_dir)
        self.recorder = self.simulated.recorder
        self.status_api = StatusApi(
            self.store, self.recorder, self.simulated.controller, self.simulated.clock, resync=1.0
        )
        self.status_api.node = "web-1"
        self.server = self._serve(0)

    def _wired(self, state_dir: Path) -> App:
        simulated = App(self.store, Settings(), simulated_client(host_for(RecordSet.of([])), state_dir))
        simulated.controller.limit_to(frozenset())  # no pool is worked on
        return simulated

    def _serve(self, port: int) -> StatusServer:
        server = StatusServer(("127.0.0.1", port), self.status_api, self.simulated.registry)
        server.start()
        return server

    @property
    def url(self) -> str:
        return self.server.url

    def go_silent(self) -> int:
        """As when the daemon ends; gives the port."""
        port = self.server.port
        self.server.stop()
        return port

    def come_back(self, port: int) -> None:
        self.server = self._serve(port)

    def close(self) -> None:
        self.server.stop()
        self.simulated.controller.stop()
        self.store.close()

    # What a test says

    def declare(self, *records: Record) -> None:
        self.simulated.controller.set_desired(Desired.of(RecordSet.of(records), time.monotonic()))

    def found(self, record: Record | None, status: Status, *, retained: bool = False) -> None:
        """This, of a record or of what was one, at a look."""
        desired = "" if record is None else record.spec.state.value
        condition = Condition(status.reason, status.message, status.live, retained=retained)
        self.recorder.record(status, condition, desired)

    def devices_are(self, records: Iterable[Record], **fields: Any) -> None:
        """All of them alike: as desired, where nothing else is said."""
        for number, record in enumerate(records):
            self.found(record, device_status(record.key, **{"device_id": number, **fields}))


def device_status(
    key: Key, reason: Reason = Reason.CONVERGED, message: str = "as desired", **fields: Any
) -> DeviceStatus:
    common = {
        "live": LiveState.ACTIVE,
        "since": time.time() - 7500,
        "good": reason in GOOD,
        "dm_name": f"{key.pool}-{key.device}",
        "uuid": UUID + "0" * 32,
        "size": Bytes(10 * GIB),
        "mapped": Bytes(3 * GIB),
    }
    return DeviceStatus(key=key, reason=reason, message=message, **{**common, **fields})


def pool_status(
    name: str, reason: Reason = Reason.CONVERGED, message: str = "as desired", **fields: Any
) -> PoolStatusReport:
    common = {
        "live": LiveState.ACTIVE,
        "since": time.time() - 90000,
        "good": reason in GOOD,
        "dm_name": name,
        "uuid": UUID + "f" * 32,
        "mode": PoolMode.RW,
        "data_used": Bytes(7 * GIB),
        "data_size": Bytes(20 * GIB),
        "metadata_used": Bytes(9 << 20),
        "metadata_size": Bytes(64 << 20),
    }
    return PoolStatusReport(key=Key(name), reason=reason, message=message, **{**common, **fields})


class LiveEnvironment(Environment):
    """The whole of it: pool controllers at work on a host in memory, which a test breaks."""

    def __init__(self, state_dir: Path, *records: Record) -> None:
        self._host = host_for(RecordSet.of(records))
        self._stopping = threading.Event()
        super().__init__(state_dir)
        self.declare(*records)
        self._turning = threading.Thread(target=self._turn)
        self._turning.start()

    def _wired(self, state_dir: Path) -> App:
        client_of = simulated_client(self._host, state_dir)
        # The host in memory is not made for several threads: who breaks it takes its turn among the pool controllers.
        self.in_turn = client_of("")._lock  # type: ignore[attr-defined]
        return App(self.store, Settings(grace=1.0), client_of)

    @property
    def dm(self) -> DeviceMapper:
        """As `dmsetup` would: past the daemon, and within `in_turn`."""
        return simulated_kernel(self._host).dm

    def _turn(self) -> None:
        while not self._stopping.wait(TURN):
            self.simulated.controller.resync()
            self.status_api.turned()

    def close(self) -> None:
        self._stopping.set()
        self._turning.join()
        super().close()

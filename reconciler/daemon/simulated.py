"""Manifests tried on a host in memory: empty, but for the disks and folders that they name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from reconciler.kernel.protocol import Kernel
from reconciler.kernel.simulated import SimulatedHost, simulated_kernel
from reconciler.kernel.worker.client import InlinePort, PoolPort
from reconciler.model.live import LookRequest, PoolLook, Watched
from reconciler.model.records import Backing
from reconciler.model.recordset import RecordSet
from reconciler.model.steps import HostStep, StepResult
from reconciler.model.units import Bytes, format_size

DATA_SIZE: Final = Bytes(1024**4)
METADATA_SIZE: Final = Bytes(1024**3)


def host_for(records: RecordSet) -> SimulatedHost:
    """With the disks that the records name, and the folders that their files are to be in."""
    host = SimulatedHost(free_space=_room(records))
    for path, size in _disks(records):
        host.blocks[host.add_disk(path, size)].node = path
    host.folders |= {str(folder) for path in _files(records) for folder in PurePosixPath(path).parents}
    return host


def disks_in_words(records: RecordSet) -> list[str]:
    """`/dev/sdb of 1TiB` for each disk that is simply there."""
    return [f"{path} of {format_size(size)}" for path, size in _disks(records)]


def simulated_port(host: SimulatedHost, state_dir: Path) -> Callable[[str], PoolPort]:
    """Ports to the one host, for lanes that are threads: it is not made for several at a time."""
    lock = threading.Lock()

    def port_of(pool: str) -> PoolPort:
        return _PortInTurn(simulated_kernel(host), pool, state_dir, lock)

    return port_of


class _PortInTurn(InlinePort):
    def __init__(self, kernel: Kernel, pool: str, state_dir: Path, lock: threading.Lock) -> None:
        super().__init__(kernel, Watched(pool, None, None, frozenset()), state_dir)
        self._lock = lock

    def look(self, request: LookRequest) -> PoolLook:
        with self._lock:
            return super().look(request)

    def run(self, step: HostStep) -> StepResult:
        with self._lock:
            return super().run(step)


def _disks(records: RecordSet) -> Iterator[tuple[str, Bytes]]:
    """What lies on a device that the records themselves make is there once that is."""
    made = {f"/dev/mapper/{record.dm_name}" for record in records}
    for pool in records.pools.values():
        for backing, size in ((pool.spec.data, DATA_SIZE), (pool.spec.metadata, METADATA_SIZE)):
            if backing is not None and backing.device is not None and backing.device not in made:
                yield backing.device, size


def _files(records: RecordSet) -> Iterator[str]:
    return (backing.file for backing in _backings(records) if backing.file is not None)


def _room(records: RecordSet) -> int:
    """Every file fits, as far as it may grow."""
    wanted = (pool.spec.extend.max for pool in records.pools.values() if pool.spec.extend is not None)
    return DATA_SIZE + sum(wanted) + sum(backing.size or 0 for backing in _backings(records))


def _backings(records: RecordSet) -> Iterable[Backing]:
    return (backing for pool in records.pools.values() for backing in pool.spec.backings)

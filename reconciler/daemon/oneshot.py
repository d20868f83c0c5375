"""The daemon's work done once by a command: `apply`, and `plan`, which changes nothing.

`--kernel simulated` does it on an empty host in memory that has the disks and folders of the manifests. `apply` ends
when everything is converged or when only a person can go on; a record that waits for one that only a person can mend
counts as such, too.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from reconciler.controller.clock import SystemClock, system_random
from reconciler.controller.desired import Desired
from reconciler.controller.dry_run import Preview, preview_pool
from reconciler.controller.fact_gatherer import Settings
from reconciler.controller.recorder import Progress
from reconciler.daemon.app import App, host_client
from reconciler.daemon.record_loader import ManifestsInvalid, keep
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.privileges import require_admin
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.simulated import SimulatedHost, simulated_kernel
from reconciler.kernel.worker.client import InlineWorkerClient, WorkerClient
from reconciler.model.conditions import FINAL, PoolStatusReport, Reason, Status
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import PoolScan, ScanRequest, ScanScope
from reconciler.model.names import Key
from reconciler.model.records import Backing, PoolState
from reconciler.model.recordset import RecordSet
from reconciler.model.steps import HostStep, StepResult
from reconciler.model.units import Bytes, format_size
from reconciler.sources.manifests.read import load
from reconciler.store.lock import StateLock
from reconciler.store.store import Store

DATA_SIZE: Final = Bytes(1024**4)
METADATA_SIZE: Final = Bytes(1024**3)


def host_for(records: RecordSet) -> SimulatedHost:
    """A simulated host with the disks that the records name, and the folders for their files."""
    host = SimulatedHost(free_space=_room(records))
    for path, size in _disks(records):
        host.blocks[host.add_disk(path, size)].node = path
    host.folders |= {str(folder) for path in _files(records) for folder in PurePosixPath(path).parents}
    return host


def disks_in_words(records: RecordSet) -> list[str]:
    """The disks of the simulated host, each as `/dev/sdb of 1TiB`."""
    return [f"{path} of {format_size(size)}" for path, size in _disks(records)]


def simulated_client(host: SimulatedHost, state_dir: Path) -> Callable[[str], WorkerClient]:
    """Makes clients of one simulated host, whose calls take turns: the host is not thread-safe, the controllers are
    threads.
    """
    lock = threading.Lock()

    def client_of(pool: str) -> WorkerClient:
        return _ClientInTurn(simulated_kernel(host), pool, state_dir, lock)

    return client_of


class _ClientInTurn(InlineWorkerClient):
    def __init__(self, kernel: Kernel, pool: str, state_dir: Path, lock: threading.Lock) -> None:
        super().__init__(kernel, ScanScope(pool, None, None, frozenset()), state_dir)
        self._lock = lock

    def look(self, request: ScanRequest) -> PoolScan:
        with self._lock:
            return super().look(request)

    def run(self, step: HostStep) -> StepResult:
        with self._lock:
            return super().run(step)


def _disks(records: RecordSet) -> Iterator[tuple[str, Bytes]]:
    """The disks to simulate, with their sizes; those on devices that the records themselves make are left out."""
    made = {f"/dev/mapper/{record.dm_name}" for record in records}
    for pool in records.pools.values():
        for backing, size in ((pool.spec.data, DATA_SIZE), (pool.spec.metadata, METADATA_SIZE)):
            if backing is not None and backing.device is not None and backing.device not in made:
                yield backing.device, size


def _files(records: RecordSet) -> Iterator[str]:
    return (backing.file for backing in _backings(records) if backing.file is not None)


def _room(records: RecordSet) -> int:
    """The space for all files, each at its largest size."""
    wanted = (pool.spec.extend.max for pool in records.pools.values() if pool.spec.extend is not None)
    return DATA_SIZE + sum(wanted) + sum(backing.size or 0 for backing in _backings(records))


def _backings(records: RecordSet) -> Iterable[Backing]:
    return (backing for pool in records.pools.values() for backing in pool.spec.backings)


_DAMAGED: Final = frozenset({PoolMode.NEEDS_CHECK, PoolMode.FAIL})
"""Modes that no pool leaves by itself."""
_OF_ITS_POOL: Final = frozenset({Reason.WAITING_FOR_POOL, Reason.POOL_UNHEALTHY})
"""The reasons by which a device reports the state of its pool."""


def is_over(statuses: Mapping[Key, Status], desired: Desired) -> bool:
    return all(status.good or _is_final(status, statuses, desired) for status in statuses.values())


def _is_final(status: Status, statuses: Mapping[Key, Status], desired: Desired) -> bool:
    """Whether the status cannot change by itself, however long one waits."""
    if status.reason in FINAL:
        return True
    key = status.key
    if not key.device:
        return isinstance(status, PoolStatusReport) and _is_damaged(status)
    if status.reason in _OF_ITS_POOL:
        return _is_final_of_pool(Key(key.pool), statuses, desired)
    if status.reason is Reason.WAITING_FOR_ORIGIN:
        return _is_final_of_origin(key, statuses, desired)
    return False


def _is_damaged(status: PoolStatusReport) -> bool:
    return status.reason is Reason.POOL_UNHEALTHY and status.mode in _DAMAGED


def _is_final_of_pool(key: Key, statuses: Mapping[Key, Status], desired: Desired) -> bool:
    pool, record = statuses.get(key), desired.of_pool(key.pool).pool
    if pool is None:
        return False
    if not pool.good:
        return _is_final(pool, statuses, desired)
    # A pool that is down as its record says brings nothing up; in any other, an operation or a repair may go on.
    return record is not None and (record.spec.paused or record.spec.state is not PoolState.ACTIVE)


def _is_final_of_origin(key: Key, statuses: Mapping[Key, Status], desired: Desired) -> bool:
    """The same for the origin of a snapshot. Origins form no circle, because the records were checked together. Only a
    person can add one that has no record.
    """
    records = desired.of_pool(key.pool).devices
    record = records.get(key)
    if record is None or record.spec.snapshot_of is None:
        return False
    origin = Key(key.pool, record.spec.snapshot_of)
    status = statuses.get(origin)
    if status is None:
        return origin not in records
    return not status.good and _is_final(status, statuses, desired)


_RESYNC: Final = 1.0
"""Seconds between two scans for changes that no event announces."""


@dataclass(frozen=True, slots=True)
class OneShotOptions:
    """What the operator asked for; times in seconds."""

    manifests: Path
    state_dir: Path
    node: str
    names: tuple[str, ...] = ()
    """`POOL` or `POOL/NAME`; all records if empty."""
    timeout: float = 60.0
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Result:
    statuses: dict[Key, Status]
    """The statuses of all keys that were asked for."""
    timed_out: bool

    @property
    def good(self) -> bool:
        return all(status.good for status in self.statuses.values())


class Shown(Progress, Protocol):
    """A command that also shows what it waits for."""

    def waiting(self, left: list[Status], seconds: float) -> None:
        """Called after a second without news. `left` are the statuses that have not converged (empty during the first
        scan), `seconds` is the time left.
        """


class UnknownName(Exception):  # noqa: N818  # says what is
    """A name that no record has."""


def apply_once(once: OneShotOptions, shown: Shown) -> Result:
    """Converges, until all is as desired, only a person can go on, or the time is over.

    Raises ManifestsInvalid, UnknownName, StoreError (the lock or the store) and HostError (no device-mapper).
    """
    _check_host()
    with _locked(once.state_dir) as store:
        records, digest = _load(once.manifests)
        app = App(store, once.settings, host_client(once.state_dir, lock=True), shown)
        keep(store, records.by_pool().values(), digest)
        with _begun(app, once, records) as desired:
            return _converge(app, desired, once.timeout, shown)


def apply_simulated(once: OneShotOptions, progress: Progress, begin: Callable[[list[str]], None]) -> Result:
    """Does the same on a simulated host, which is empty except for its disks; `begin` is told what these are. The real
    host is not touched, and nothing is kept. It ends when nothing happens any more.

    Raises ManifestsInvalid and UnknownName.
    """
    records, _ = _load(once.manifests, trust=False)  # these manifests have no effect on the host
    mine = records.for_node(once.node)
    begin(disks_in_words(mine))
    with tempfile.TemporaryDirectory() as empty, Store.open(Path(empty), wall_clock=time.time) as store:
        app = App(store, once.settings, simulated_client(host_for(mine), Path(empty)), progress)
        with _begun(app, once, records) as desired:
            return _settle(app, desired, once.timeout)


def _check_host() -> None:
    """Raises HostError if there is no device-mapper, or no permission to use it."""
    dm = LibDm()
    require_admin()
    dm.versions()


@contextmanager
def _begun(app: App, once: OneShotOptions, records: RecordSet) -> Iterator[Desired]:
    desired = Desired.of(records.for_node(once.node), app.clock.now())
    selected = _selected(once.names, desired, app.store)
    app.controller.limit_to(selected)
    app.recorder.shown = selected
    try:
        yield desired
    finally:
        app.controller.stop()
        app.recorder.flush()


@contextmanager
def _locked(state_dir: Path) -> Iterator[Store]:
    with StateLock(state_dir), Store.open(state_dir, wall_clock=time.time) as store:
        yield store


def _converge(app: App, desired: Desired, timeout: float, shown: Shown) -> Result:
    something = _when_something_happens(app)
    app.controller.set_desired(desired)
    end = app.clock.now() + timeout
    while True:
        something.clear()
        _check_store(app)
        statuses = app.controller.statuses()
        if app.controller.all_passed() and is_over(statuses, desired):
            return Result(statuses, timed_out=False)
        left = end - app.clock.now()
        if left <= 0:
            return Result(statuses, timed_out=True)
        if not something.wait(min(left, _RESYNC)):
            statuses = app.controller.statuses()
            shown.waiting([status for status in statuses.values() if not status.good], left)
            app.controller.resync()


def _settle(app: App, desired: Desired, timeout: float) -> Result:
    """Converges as `_converge` does, on a host that nobody else changes; ends when two whole passes find the same."""
    something = _when_something_happens(app)
    end, before = app.clock.now() + timeout, dict[Key, Status]()
    while True:
        app.controller.set_desired(desired.renewed())  # lets passes that began earlier not count
        while not app.controller.all_passed():
            if not something.wait(max(0.0, end - app.clock.now())):
                return Result(app.controller.statuses(), timed_out=True)
            something.clear()
            _check_store(app)
        statuses = app.controller.statuses()
        if is_over(statuses, desired) or statuses == before:
            return Result(statuses, timed_out=False)
        before = statuses


def _when_something_happens(app: App) -> threading.Event:
    something = threading.Event()
    app.recorder.changed = something.set
    app.controller.failed = something.set
    return something


def _check_store(app: App) -> None:
    """Raises StoreError if the store prevents all further work."""
    if app.controller.failure is not None:
        raise app.controller.failure
    if app.store.trouble is not None:
        raise app.store.trouble


def plan_once(once: OneShotOptions, tell: Callable[[str], None]) -> list[Preview]:
    """Plans what `apply` would do; `tell` receives its progress. Raises as `apply_once`, except for the lock, which it
    does not take.
    """
    _check_host()
    records, _ = _load(once.manifests)
    desired, clock = Desired.of(records.for_node(once.node)), SystemClock()
    with _looked_up(once.state_dir) as store:
        selected = _selected(once.names, desired, store)
        pools = sorted(desired.pools.keys() | set(store.known_pools()))
        previews: list[Preview] = []
        for pool in pools:
            if selected is not None and all(key.pool != pool for key in selected):
                continue
            tell(f"looking at pool {pool}")
            client = host_client(once.state_dir, lock=False)(pool)
            try:
                mine = desired.of_pool(pool)
                found = preview_pool(mine, client=client, store=store, clock=clock, rng=system_random())
                previews += [each for each in found if selected is None or each.key in selected]
            finally:
                client.close()
    return previews


@contextmanager
def _looked_up(state_dir: Path) -> Iterator[Store]:
    """The store, opened for reading; if there is none yet, an empty one that is thrown away."""
    if state_dir.exists():
        with Store.open_read_only(state_dir) as store:
            yield store
        return
    with tempfile.TemporaryDirectory() as empty, Store.open(Path(empty), wall_clock=time.time) as store:
        yield store


def _load(manifests: Path, *, trust: bool = True) -> tuple[RecordSet, str]:
    loaded = load(manifests, trust=trust)
    if loaded.records is None:
        raise ManifestsInvalid(loaded.problems)
    return loaded.records, loaded.digest


def _selected(names: Iterable[str], desired: Desired, store: Store) -> frozenset[Key] | None:
    """The keys that the names ask for: a pool with its devices, or a device with its pool. None for all."""
    if not names:
        return None
    known = {Key(pool) for pool in store.known_pools()}
    known |= {device.key for pool in store.known_pools() for device in store.known_devices(pool).values()}
    known |= {record.key for record in desired}
    found: set[Key] = set()
    for name in names:
        pool, _, device = name.partition("/")
        fitting = {key for key in known if key.pool == pool and (not device or key.device == device)}
        if not fitting:
            raise UnknownName(f"no record names {name}: `dm-reconciler get` lists what there is, as POOL or POOL/NAME")
        found |= fitting | {Key(pool)}
    return frozenset(found)

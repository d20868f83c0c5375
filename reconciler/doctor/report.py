"""Runs all checks of `doctor`: those of the host, and those of the pools that the store or the records name.

Each pool is observed as the daemon observes it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from reconciler.controller.clock import SystemClock, system_random
from reconciler.controller.desired import Desired
from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.observer import PoolObserver
from reconciler.controller.recorder import block_bytes
from reconciler.daemon.app import host_client
from reconciler.daemon.record_loader import RecordLoader
from reconciler.doctor.checks import (
    Check,
    PoolView,
    Severity,
    check_intents,
    check_leaks,
    check_loops_of,
    check_pool,
    how_to_stop,
    to_fix,
)
from reconciler.doctor.host import (
    Needs,
    check_kernel,
    check_loop_module,
    check_loops,
    check_memory,
    check_namespaces,
    check_permissions,
    check_programs,
    check_udev,
)
from reconciler.doctor.repairs import changed_thins, detach_loops, first_of, forget_lost, repairs_of
from reconciler.doctor.state import check_manifests, check_run_folder, check_state, check_statuses
from reconciler.doctor.take_over import Withheld
from reconciler.kernel.programs import HostTools
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import PoolStatusReport
from reconciler.model.errors import HostError
from reconciler.model.live import PathKind, Superblock, ThinIds
from reconciler.model.names import Key
from reconciler.model.records import Backing
from reconciler.model.recordset import PoolRecords
from reconciler.model.stored import SalvagedPool
from reconciler.model.units import SECTOR
from reconciler.planner.facts import PoolFacts
from reconciler.planner.ownership import expected_transactions
from reconciler.sources.manifests.read import load
from reconciler.sources.manifests.watch import ManifestSource
from reconciler.store.errors import StoreError
from reconciler.store.lock import LockHeld
from reconciler.store.quarantine import recall
from reconciler.store.store import Store
from reconciler.telemetry.metrics import Metrics


class PoolInspector:
    """The observer of one pool. It keeps what it saw, as a worker reports only changes since its last answer."""

    def __init__(
        self, name: str, client: WorkerClient, store: Store, *, alone: bool, remembered: SalvagedPool | None = None
    ) -> None:
        """With `alone`, the pool's lock is held during the scan and its thin ids can be read; two readers would disturb
        each other. Otherwise the ids in the store are used.
        """
        self._name = name
        self._client = client
        self._store = store
        self._alone = alone
        self._remembered = remembered
        settings = Settings(grace=0.0, observe_only=not alone)
        self._gatherer = FactGatherer(name, store, SystemClock(), system_random(), settings)
        self._observer = PoolObserver(client, self._gatherer)

    def look(self, records: PoolRecords) -> PoolView:
        """Scans everything anew, including the thin ids."""
        name, store, observer, alone = self._name, self._store, self._observer, self._alone
        before = observer.observed.ids
        self._gatherer.use(records, -inf)
        trouble = observer.look([], whole=True)
        if not trouble and not _is_external(records, store):
            observer.look_after(Key(name))  # makes the scan read every table
            if observer.observed.ids is before:
                observer.read_ids()
        facts = self._gatherer.pool_facts(observer.observed, observer.trouble)
        ids, ids_trouble = (facts.ids, observer.ids_trouble) if alone else (None, None)
        if alone and ids is None and _is_compared_at_rest(facts):
            ids, ids_trouble = _read_at_rest(facts)
            facts = replace(facts, ids=ids)
        return PoolView(
            facts=facts,
            ids=ids,
            ids_trouble=ids_trouble,
            devices=dict(observer.observed.devices),
            known=store.known_devices(name),
            records=tuple(records.devices.values()),
            former=store.former(name),
            block=block_bytes(facts.live) or (facts.known.block * SECTOR if facts.known is not None else 0),
            remembered=self._remembered,
            told_leaked=() if alone else _told_leaked(store, name),
        )

    def close(self) -> None:
        self._client.close()


def _is_external(records: PoolRecords, store: Store) -> bool:
    """Whether the pool is external; its ids are not read, as that would write to its metadata."""
    record, known = records.pool, store.known_pool(records.name)
    if record is not None:
        return record.spec.external
    return known is not None and known.external


def _is_compared_at_rest(facts: PoolFacts) -> bool:
    """Whether the pool is down and undamaged, and at another transaction than in the store or unknown to it."""
    live = facts.live
    if live.device is not None or facts.stuck or live.metadata.superblock is not Superblock.POOL:
        return False
    if live.metadata.used_by or (facts.record is not None and facts.record.spec.external):
        return False
    if facts.known is None:
        return True
    return facts.known.created and live.metadata.transaction_id not in expected_transactions(facts)


def _read_at_rest(facts: PoolFacts) -> tuple[ThinIds | None, str]:
    metadata = facts.live.metadata
    if metadata.kind not in {PathKind.FILE, PathKind.BLOCK}:
        return None, ""
    path = _metadata_path(facts)
    if metadata.devno is None and not path:
        return None, "no loop is on its metadata file"
    try:
        return HostTools().thin_ls(path if metadata.devno is None else f"/dev/block/{metadata.devno}", live=False), ""
    except HostError as fault:
        return None, str(fault)


def _metadata_path(facts: PoolFacts) -> str:
    if facts.record is not None and facts.record.spec.metadata is not None:
        return facts.record.spec.metadata.path
    return facts.known.metadata if facts.known is not None else ""


def _told_leaked(store: Store, name: str) -> tuple[int, ...]:
    status = store.statuses().get(Key(name))
    return (status.leaked_ids or ()) if isinstance(status, PoolStatusReport) else ()


_USUAL: Final = Path("/var/lib/dm-reconciler")
"""The default of the state directory, which is left out of the command lines that are shown."""


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What the operator asked for."""

    state_dir: Path
    manifests: Path | None
    node: str

    @property
    def fix(self) -> str:
        """The command line that repairs what this one finds."""
        manifests = f" --manifests {self.manifests}" if self.manifests is not None else ""
        return f"dm-reconciler doctor --fix{manifests}{self.state}"

    def next_step(self, *, daemon_runs: bool, pools: bool) -> str:
        """What to do on a host that is fit."""
        if daemon_runs:
            return f"`dm-reconciler get{self.state}` shows what the daemon makes of it"
        plan = f"`dm-reconciler plan --manifests {self.manifests or 'DIR'}{self.state}` shows what would be done"
        if not pools:
            return f"write manifests; {plan}"
        return f"{plan}, and `systemctl start dm-reconciler` has it done"

    @property
    def state(self) -> str:
        """The options by which a command line finds the same state directory."""
        return "" if self.state_dir == _USUAL else f" --state-dir {self.state_dir}"


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Check, ...]
    looked: bool
    """Whether devices could be scanned."""
    next_step: str = ""
    """What to do next if nothing is wrong."""

    @property
    def todo(self) -> list[str]:
        """What to do, each once, in the order of the checks."""
        return list(dict.fromkeys(check.todo for check in self.checks if check.todo))


def examine(options: DoctorOptions, tell: Callable[[str], None]) -> Report:
    """Runs all checks; `tell` receives the progress. Raises for nothing that it finds: a failed scan is a check."""
    tell("looking at this host")
    kernel, looked = check_kernel()
    state = check_state(options.state_dir)
    with store_to_read(options.state_dir) as store:
        desired, manifests = desired_of(options, store)
        needs = _needs(desired)
        checks = [*kernel, *check_permissions(), *check_udev(), check_memory(), *check_namespaces()]
        checks += [*check_programs(needs), check_loop_module(needs), *check_loops(_files(desired, store))]
        checks += [*state.checks, *check_run_folder(options.state_dir), *manifests]
        daemon_runs = state.holder is not None
        names = pools_of(desired, store)
        remembered = recall(store.instead_of)
        for name in names:
            if not looked:
                checks.append(Check(f"pool {name}", Severity.UNKNOWN, "cannot be looked at: see device-mapper above"))
                continue
            tell(f"looking at pool {name}")
            inspector = PoolInspector(
                name,
                host_client(options.state_dir, lock=not daemon_runs)(name),
                store,
                alone=not daemon_runs,
                remembered=remembered.get(name),
            )
            with closing(inspector):
                view = inspector.look(desired.of_pool(name))
            checks += checks_of(view, options.fix, state.holder)
        if not names:
            checks.append(Check("pools", Severity.LEFT, "neither store nor manifests name one (see --manifests)"))
        checks.append(check_statuses(desired, store, daemon_runs=daemon_runs, state=options.state))
    return Report(tuple(checks), looked, options.next_step(daemon_runs=daemon_runs, pools=bool(names)))


def checks_of(view: PoolView, fix: str, holder: LockHeld | None = None) -> list[Check]:
    """All checks of one pool. `holder` is the daemon, if one runs."""
    daemon_runs = holder is not None
    repairs = repairs_of(view)
    first = None if view.is_left_alone else first_of(view)
    stale = [] if daemon_runs else [repair for repair in detach_loops(view) if repair in repairs]
    if isinstance(first, Withheld):
        checks = [Check(f"pool {view.name}", Severity.WRONG, first.message, first.todo)]
    else:
        can_mend = bool(stale) or first in repairs
        checks = [check_pool(view, fix=fix, daemon_runs=daemon_runs, can_mend=can_mend)]
    if checks[0].mark is Severity.OK:
        checks += [Check(f"loops of {view.name}", Severity.WRONG, repair.why, to_fix(fix)) for repair in stale]
    leaks = check_leaks(view, fix=fix, stop="" if holder is None else how_to_stop(holder.pid))
    checks += [leaks] if leaks is not None else []
    checks += [Check(f"device {repair.key}", Severity.WRONG, repair.why, to_fix(fix)) for repair in forget_lost(view)]
    for device, words in changed_thins(view):
        todo = f"take {device.key} out of the manifests, then `dm-reconciler forget device {device.key}`"
        checks.append(Check(f"device {device.key}", Severity.WRONG, words, todo))
    return [*checks, *check_loops_of(view), *check_intents(view, daemon_runs=daemon_runs)]


@contextmanager
def store_to_read(state_dir: Path) -> Iterator[Store]:
    """The store, opened for reading; if there is none that can be read, an empty one that is thrown away."""
    try:
        store = Store.open_read_only(state_dir)
    except StoreError:
        with tempfile.TemporaryDirectory() as empty, Store.open(Path(empty), wall_clock=time.time) as store:
            yield store
        return
    with store:
        yield store


def desired_of(options: DoctorOptions, store: Store) -> tuple[Desired, list[Check]]:
    """The records of the manifests; if there are none, or they are broken, the last good set."""
    sources = [ManifestSource(options.manifests or Path())]
    last_good = RecordLoader(sources, options.node, store, Metrics(CollectorRegistry()), SystemClock()).last_good
    if options.manifests is None:
        return last_good() or Desired(), []
    loaded = load(options.manifests)
    checks = check_manifests(options.manifests, loaded)
    if loaded.records is None:
        return last_good() or Desired(), checks
    return Desired.of(loaded.records.for_node(options.node)), checks


def pools_of(desired: Desired, store: Store) -> list[str]:
    return sorted(desired.pools.keys() | set(store.known_pools()))


def _needs(desired: Desired) -> Needs:
    wanted = (device.spec.filesystem for records in desired.pools.values() for device in records.devices.values())
    filesystems = frozenset(filesystem.type for filesystem in wanted if filesystem is not None)
    return Needs(filesystems, any(backing.file is not None for backing in _backings(desired)))


def _files(desired: Desired, store: Store) -> frozenset[str]:
    """The files of all pools that are stored or recorded."""
    known = {path for pool in store.known_pools().values() for path in (pool.data, pool.metadata)}
    return frozenset(known | {backing.path for backing in _backings(desired)})


def _backings(desired: Desired) -> list[Backing]:
    pools = (records.pool for records in desired.pools.values())
    return [backing for pool in pools if pool is not None for backing in pool.spec.backings]

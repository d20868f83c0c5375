"""Scans one pool and its devices, and reports in one answer only what has changed since the last scan.

The order is bottom up, and no call is made that could block: with a suspended device below a pool even a noflush status
hangs, while LIST and INFO always answer (observed on 6.1). INFO is asked for every device in every scan; tables,
statuses and nodes only where INFO shows a change, and for a tenth of the rest in turn, because nothing announces a
table that was swapped.

The device index knows the host's dm devices and which of them concern one pool. It is listed anew only when
device-mapper reports a change.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.kernel.block.backing import look_at_backing, look_at_start
from reconciler.kernel.protocol import DeviceMapper, Kernel
from reconciler.kernel.steps.dm_operations import may_be_reserved, read_ids
from reconciler.model.dm_tables import (
    Devno,
    PoolFailure,
    PoolMode,
    PoolStatus,
    Table,
    parse_devno,
    read_pool_status,
    read_thin_status,
)
from reconciler.model.errors import HostError
from reconciler.model.identity import Start
from reconciler.model.live import (
    BackingPath,
    Below,
    DeviceInfo,
    Listed,
    LiveBacking,
    LiveDevice,
    LivePool,
    PoolScan,
    ScanRequest,
    ScanScope,
    ThinIds,
)

_LISTINGS = 5
"""How often the devices are listed in one scan, because some of them vanish while they are looked at."""
TURNS = 10
"""How many scans it takes until everything that announces no change has been read again once."""


class DeviceIndex:
    def __init__(self, dm: DeviceMapper) -> None:
        self._dm = dm
        self._listed = False
        self.listing: Mapping[str, Listed] = {}
        self.names: Mapping[Devno, str] = {}
        self._lies_on: dict[tuple[str, Devno], bool] = {}
        self._relevant: frozenset[str] | None = None
        self._relevant_to: tuple[ScanScope, Devno | None] | None = None

    def refresh(self) -> None:
        """Lists the devices if one may have been added, removed, renamed or given a table since the last call."""
        if self._dm.has_changed():
            self._listed = False  # the change is not reported again if LIST fails
        if self._listed:
            return
        self.list_again()

    def list_again(self) -> None:
        """Lists the devices, whether or not a change was announced."""
        listing = {listed.name: listed for listed in self._dm.list_all()}
        self._listed = True
        if listing == self.listing:
            return
        self.listing = listing
        self.names = {listed.devno: name for name, listed in listing.items()}
        self._lies_on = {key: on for key, on in self._lies_on.items() if key[0] in listing}
        self._relevant = None

    def relevant(self, watched: ScanScope, pool: Devno | None, turn: int | None) -> frozenset[str]:
        """The watched names that exist, and whatever else is on the pool. With a turn, a part of the host's other
        devices is read again, because a swapped table does not show in the list.
        """
        if turn is not None and pool is not None:
            self._ask_again(watched, pool, turn)
        if self._relevant is None or self._relevant_to != (watched, pool):
            self._relevant = frozenset(
                name
                for name, listed in self.listing.items()
                if name != watched.pool and (name in watched.names or (pool is not None and self._is_on(listed, pool)))
            )
            self._relevant_to = (watched, pool)
        return self._relevant

    def forget(self) -> None:
        self._listed = False
        self._lies_on.clear()
        self._relevant = None

    def _ask_again(self, watched: ScanScope, pool: Devno, turn: int) -> None:
        others = sorted(self.listing.keys() - watched.names)
        for name in others[turn::TURNS]:
            listed = self.listing[name]
            before = self._lies_on.pop((name, listed.devno), None)
            if name != watched.pool and before is not None and before != self._is_on(listed, pool):
                self._relevant = None

    def _is_on(self, listed: Listed, pool: Devno) -> bool:
        key = (listed.name, listed.devno)
        if key not in self._lies_on:
            try:
                self._lies_on[key] = pool in self._dm.deps(listed.name)
            except HostError:  # the device was removed since it was listed, and is read again if it comes back
                return False
        return self._lies_on[key]


class PoolScanner:
    """Scans a pool, and keeps what it saw: an idle scan costs one LIST, one INFO a device, and the pool's status."""

    def __init__(self, kernel: Kernel, watched: ScanScope, state_dir: Path) -> None:
        self._kernel = kernel
        self._watched = watched
        self._state_dir = state_dir
        self._seen: dict[str, LiveDevice] = {}
        self._index = DeviceIndex(kernel.dm)
        self._below: list[Devno] = []
        self._protected: frozenset[Devno] = frozenset()
        self._is_used = False
        self._data = LiveBacking()
        self._metadata = LiveBacking()
        self._turn = 0
        self._first = True

    def watch(self, watched: ScanScope) -> None:
        """Changes what is scanned. What is known of devices that stay in the scope is kept."""
        self._watched = watched
        self._turn = 0

    def forget(self) -> None:
        """Makes the next scan report everything, as if it were the first."""
        self._seen.clear()
        self._index.forget()
        self._turn = 0
        self._first = True

    def look(self, request: ScanRequest) -> PoolScan:
        """Scans the pool. Raises HostError; the next scan then reports what this one had already seen."""
        try:
            return self._look(request)
        except HostError:
            self.forget()
            raise

    def _look(self, request: ScanRequest) -> PoolScan:
        first = self._first
        if first:  # the first scan is of everything, whatever was asked for
            request = replace(request, names=None, thorough=True)
        self._index.refresh()
        thorough = request.thorough or self._turn == 0
        pool = self._look_at_pool(thorough=thorough)
        quiet = bool(pool.suspended_below) or pool.device is None or pool.device.info.suspended
        changed, gone = self._look_at_devices(pool, request, quiet=quiet)
        if thorough:
            self._protected = self._look_at_protected()
        if request.names is None:
            self._turn = (self._turn + 1) % TURNS
        self._first = False
        seen = PoolScan(pool, changed, gone, first, protected=self._protected)
        return self._with_ids(seen, ours=request.ours) if request.ids and not quiet else seen

    # Scanning the pool

    def _look_at_pool(self, *, thorough: bool) -> LivePool:
        dm, name = self._kernel.dm, self._watched.pool
        info = dm.info(name) if name in self._index.listing else None
        if info is None and (suspended := self._suspended_in_its_place()):
            self._below = []
            return LivePool(data=self._data, metadata=self._metadata, suspended_below=suspended)
        if info is None:
            self._below = []
            self._look_below(None, quiet=False)
            return LivePool(data=self._data, metadata=self._metadata, renamed=self._renamed(info))
        if thorough or not self._below:
            self._below = [devno for devno in self._kernel.disks.below(info.devno) if devno != info.devno]
        suspended = self._suspended_below()
        if thorough:
            self._look_below(info, quiet=bool(suspended))
        if suspended:
            device = LiveDevice(info, table=dm.table(name))
            return LivePool(device, None, self._data, self._metadata, suspended)
        missing = self._missing_nodes(info)
        device = LiveDevice(info, table=dm.table(name), inactive=self._inactive(info), missing_nodes=missing)
        status = self._pool_status(info)
        data = self._data
        if isinstance(status, PoolStatus) and status.mode is PoolMode.RW and not info.suspended:
            if thorough or (status.data_used > 0) != self._is_used:
                data = replace(data, start=self._start())  # only in this answer, because it changes
            self._is_used = status.data_used > 0
        return LivePool(device, status, data, self._metadata, renamed=self._renamed(info))

    def _renamed(self, named: DeviceInfo | None) -> str | None:
        """The name of the device with the pool's UUID, found above the disks, where the pool is whatever its name."""
        uuid, disks = self._watched.uuid, self._kernel.disks
        if not uuid or (named is not None and named.uuid == uuid):
            return None
        devnos = [backing.devno for backing in (self._metadata, self._data) if backing.devno is not None]
        above = (self._kernel.dm.info(name) for devno in devnos for name in disks.above(devno))
        return next((info.name for info in above if info is not None and info.uuid == uuid), None)

    def _start(self) -> Start | None:
        """The start of the data, which can be read because nothing below the pool is suspended."""
        place = self._watched.data
        if place is None or self._data.devno is None:
            return None
        return look_at_start(self._kernel.disks, self._kernel.disks.node(self._data.devno))

    def _look_below(self, info: DeviceInfo | None, *, quiet: bool) -> None:
        self._data = self._backing(self._watched.data, info, is_metadata=False, quiet=quiet)
        self._metadata = self._backing(self._watched.metadata, info, is_metadata=True, quiet=quiet)

    def _backing(
        self, place: BackingPath | None, info: DeviceInfo | None, *, is_metadata: bool, quiet: bool
    ) -> LiveBacking:
        if place is None:
            return LiveBacking()
        return look_at_backing(
            self._kernel.disks,
            place,
            live_pool="" if info is None else info.name,
            fresh=self._watched.fresh,
            is_metadata=is_metadata,
            quiet=quiet,
        )

    def _suspended_in_its_place(self) -> tuple[Below, ...]:
        """A suspended device where a missing pool is to be, for which a read of the pool's superblock would wait."""
        disks, under = self._kernel.disks, dict[Devno, None]()
        for place in (self._watched.data, self._watched.metadata):
            if place is None:
                continue
            devno = disks.kind(place.path)[2]
            under.update(dict.fromkeys(disks.stands_on([place.path]) if devno is None else disks.below(devno)))
        return self._suspended_of(under)

    def _suspended_below(self) -> tuple[Below, ...]:
        return self._suspended_of(self._below)

    def _suspended_of(self, devnos: Iterable[Devno]) -> tuple[Below, ...]:
        names = self._index.names
        infos = (self._kernel.dm.info(names[devno]) for devno in devnos if devno in names)
        return tuple(Below(info.name, info.uuid) for info in infos if info is not None and info.suspended)

    def _pool_status(self, info: DeviceInfo) -> PoolStatus | PoolFailure | None:
        if not info.live_table:
            return None
        lines = self._kernel.dm.status(info.name)
        if len(lines) != 1 or lines[0][0] != "thin-pool":
            return None
        return read_pool_status(lines[0][1])

    # Scanning the devices

    def _look_at_devices(
        self, pool: LivePool, request: ScanRequest, *, quiet: bool
    ) -> tuple[dict[str, LiveDevice], frozenset[str]]:
        devno = pool.device.info.devno if pool.device is not None else None
        relevant = self._index.relevant(self._watched, devno, self._turn if request.names is None else None)
        turn = self._in_turn(relevant) if request.names is None and not request.thorough else frozenset()
        asked = request.names if request.names is not None else (relevant if request.thorough else turn)
        waiting = relevant if request.names is None else relevant & request.names
        changed: dict[str, LiveDevice] = {}
        for _ in range(_LISTINGS):
            vanished: set[str] = set()
            for name in waiting:
                found = self._look_at_device(name, thorough=name in asked, holders=request.holders, quiet=quiet)
                if found is None:
                    vanished.add(name)
                elif found != self._seen.get(name):
                    changed[name] = self._seen[name] = found
            if not vanished:
                break
            # Removed since it was listed, or renamed: then the same thin is live under a name that was not looked at.
            before = relevant
            self._index.list_again()
            relevant = self._index.relevant(self._watched, devno, None)
            waiting = (relevant - before) | (vanished & relevant)
        else:
            detail = "its devices were removed or renamed again and again while they were looked at"
            raise HostError("look at", self._watched.pool, errno.EAGAIN, detail)
        gone = frozenset(name for name in self._seen if name not in relevant)
        for name in gone:
            del self._seen[name]
        return changed, gone

    def _in_turn(self, relevant: frozenset[str]) -> frozenset[str]:
        names = sorted(relevant)
        return frozenset(names[self._turn :: TURNS])

    def _look_at_device(self, name: str, *, thorough: bool, holders: bool, quiet: bool) -> LiveDevice | None:
        info = self._kernel.dm.info(name)
        if info is None:
            return None
        before = self._seen.get(name)
        if before is not None and before.info == info and not thorough:
            return before
        found = self._look_closely(info, quiet=quiet)
        if found is None:
            return None
        if holders and thorough:
            return replace(found, holders=self._holders(info))
        if before is not None and before.info == info:
            return replace(found, holders=before.holders)  # not asked for in this scan, and the open count is unchanged
        return found

    def _look_closely(self, info: DeviceInfo, *, quiet: bool) -> LiveDevice | None:
        kernel = self._kernel
        try:
            table = kernel.dm.table(info.name) if info.live_table else ()
            lines = [] if quiet or info.suspended or not info.live_table else kernel.dm.status(info.name)
            inactive = self._inactive(info)
        except HostError as fault:
            if kernel.dm.info(info.name) is None:
                return None
            raise fault from None
        return LiveDevice(
            info=info,
            table=table,
            inactive=inactive,
            status=read_thin_status(lines[0][1]) if len(lines) == 1 and lines[0][0] == "thin" else None,
            missing_nodes=self._missing_nodes(info),
        )

    def _missing_nodes(self, info: DeviceInfo) -> tuple[str, ...]:
        return self._kernel.udev.missing(info) if info.live_table and not info.suspended else ()

    def _inactive(self, info: DeviceInfo) -> Table:
        return self._kernel.dm.table(info.name, inactive=True) if info.inactive_table else ()

    def _holders(self, info: DeviceInfo) -> tuple[str, ...]:
        if not info.open_count:
            return ()
        disks = self._kernel.disks
        mounts = [f"mounted at {place}" if place != "swap" else "swap" for place in disks.mounts(info.devno)]
        return (*mounts, *(f"device {name}" for name in disks.above(info.devno)), *disks.processes(info.devno))

    def _look_at_protected(self) -> frozenset[Devno]:
        return self._kernel.disks.stands_on(["/", str(self._state_dir)])

    # Reading the ids

    def _with_ids(self, look: PoolScan, *, ours: bool) -> PoolScan:
        """The scan with the thin ids. If they cannot be read, everything else is reported all the same."""
        try:
            return replace(look, ids=self._read_ids(look.pool, ours=ours))
        except HostError as fault:
            return replace(look, ids_trouble=str(fault), reserved=may_be_reserved(fault))

    def _read_ids(self, pool: LivePool, *, ours: bool) -> ThinIds | None:
        """All thin ids, read through a metadata snapshot that is always released afterwards.

        None if the pool cannot give one: it must be writable, and its metadata device must be known.
        """
        status = pool.status
        table = pool.device.table if pool.device is not None else ()
        if not isinstance(status, PoolStatus) or status.mode.value not in {"rw", "out_of_data_space"} or not table:
            return None
        metadata = parse_devno(table[0].params.split()[0])
        if metadata is None:
            return None
        return read_ids(self._kernel, self._watched.pool, metadata, held=status.held_root, ours=ours)

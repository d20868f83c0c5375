"""What was last seen of one pool, and since when signs of drift have been seen without a break."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.dm_tables import Devno, ThinTable, read_table
from reconciler.model.live import LiveDevice, LivePool, PoolLook, ThinEntry
from reconciler.model.names import is_private
from reconciler.planner.facts import Grace
from reconciler.planner.plan import Sign, signs


class World:
    def __init__(self) -> None:
        self.pool = LivePool()
        self.devices: dict[str, LiveDevice] = {}
        self.ids: dict[int, ThinEntry] | None = None
        self.ids_at = 0.0
        self.ids_are_told = False
        """Whether they are the pool's own word, and not the store's."""
        self.protected: frozenset[Devno] = frozenset()
        self._since: dict[str, dict[Sign, float]] = {}
        self._touched: dict[str, set[int]] = {}
        self._shows: dict[str, tuple[Devno, int]] = {}
        self._shown_by: dict[tuple[Devno, int], set[str]] = {}

    def absorb(self, look: PoolLook, now: float) -> set[str]:
        """Take in a look; the names whose state has changed. The pool's own name is among them if it has."""
        gone = set(look.gone) | ({name for name in self.devices if name not in look.devices} if look.first else set())
        for name in gone:
            self.devices.pop(name, None)
            self._since.pop(name, None)
            self._index(name, None)
        for name, device in look.devices.items():
            self.devices[name] = device
            self._sight(name, device, now)
            self._index(name, device)
        if look.ids is not None:
            self.ids, self.ids_at, self.ids_are_told = dict(look.ids), now, True
        if look.pool.device is None:
            self.ids = None  # whoever has the pool active elsewhere meanwhile may change them
        self.protected = look.protected
        changed = gone | set(look.devices)
        if look.pool != self.pool and look.pool.device is not None:
            changed.add(look.pool.device.info.name)
        self.pool = look.pool
        self._sight("", look.pool.device, now)
        return changed

    def grace(self, name: str, now: float, length: float) -> Grace:
        """Of a device; of the pool itself by the empty name."""
        return Grace(now, length, self._since.get(name, {}))

    def live_on_pool(self) -> tuple[str, ...]:
        """Dm names of the devices that lie on the pool, whosever they are."""
        pool = self.pool.device
        if pool is None:
            return ()
        return tuple(sorted(name for name, (devno, _) in self._shows.items() if devno == pool.info.devno))

    def elsewhere(self, thin_id: int, own: str, *, private: bool = False) -> tuple[str, ...]:
        """Dm names of other devices than `own` that show this thin; with private ones of ours only if asked for."""
        pool = self.pool.device
        if pool is None:
            return ()
        names = self._shown_by.get((pool.info.devno, thin_id), set()) - {own}
        return tuple(sorted(name for name in names if private or not is_private(self.devices[name].info.uuid)))

    def signs_of(self, name: str) -> Mapping[Sign, float]:
        return self._since.get(name, {})

    def _sight(self, name: str, device: LiveDevice | None, now: float) -> None:
        before = self._since.get(name, {})
        shown = signs(device)
        if shown:
            self._since[name] = {sign: before.get(sign, now) for sign in shown}
        else:
            self._since.pop(name, None)

    def take_shown(self) -> dict[str, set[int]]:
        """The thin ids that each device which changed since this was last asked shows, or showed."""
        shown, self._touched = self._touched, {}
        return shown

    def _index(self, name: str, device: LiveDevice | None) -> None:
        before = self._shows.pop(name, None)
        if before is not None:
            self._shown_by[before].discard(name)
            self._touched.setdefault(name, set()).add(before[1])
        table = read_table(device.table) if device is not None else None
        if isinstance(table, ThinTable):
            thin = (table.pool, table.thin_id)
            self._shows[name] = thin
            self._shown_by.setdefault(thin, set()).add(name)
            self._touched.setdefault(name, set()).add(table.thin_id)

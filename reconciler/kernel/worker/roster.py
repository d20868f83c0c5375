"""The host's dm devices, and which of them concern one pool. Listed anew only when device-mapper says that it changed."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.kernel.protocol import DeviceMapper
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostFault
from reconciler.model.live import Listed, Watched

TURNS = 10
"""Looks in which everything that announces nothing is asked again once."""


class Roster:
    def __init__(self, dm: DeviceMapper) -> None:
        self._dm = dm
        self._listed = False
        self.listing: Mapping[str, Listed] = {}
        self.names: Mapping[Devno, str] = {}
        self._lies_on: dict[tuple[str, Devno], bool] = {}
        self._relevant: frozenset[str] | None = None
        self._relevant_to: tuple[Watched, Devno | None] | None = None

    def refresh(self) -> None:
        """LIST, if a device may have come, gone, been renamed or given a table since the last one."""
        if self._dm.has_changed():
            self._listed = False  # it does not say so again, should LIST fail
        if self._listed:
            return
        listing = {listed.name: listed for listed in self._dm.list_all()}
        self._listed = True
        if listing == self.listing:
            return
        self.listing = listing
        self.names = {listed.devno: name for name, listed in listing.items()}
        self._lies_on = {key: on for key, on in self._lies_on.items() if key[0] in listing}
        self._relevant = None

    def relevant(self, watched: Watched, pool: Devno | None, turn: int | None) -> frozenset[str]:
        """The watched names that exist, and whatever else lies on the pool. In a turn, a part of what else there is on
        the host is asked again: a table that was swapped shows in no listing.
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

    def _ask_again(self, watched: Watched, pool: Devno, turn: int) -> None:
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
            except HostFault:  # it went away since it was listed, and is asked again if it comes back
                return False
        return self._lies_on[key]

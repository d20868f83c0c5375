"""Looking at one pool for `doctor`, with the eyes that the daemon has."""

from __future__ import annotations

from dataclasses import replace

from reconciler.controller.clock import SystemClock, system_random
from reconciler.controller.desired import Desired
from reconciler.controller.fact_gatherer import Gatherer, Settings
from reconciler.controller.observer import Viewer
from reconciler.controller.recorder import block_bytes
from reconciler.doctor.checks import PoolView
from reconciler.kernel.tools import HostTools
from reconciler.kernel.worker.client import PoolPort
from reconciler.model.conditions import PoolStatusReport
from reconciler.model.errors import HostFault
from reconciler.model.live import PathKind, Superblock, ThinIds
from reconciler.model.names import Key
from reconciler.model.stored import Remembered
from reconciler.model.units import SECTOR
from reconciler.planner.access import expected_transactions
from reconciler.planner.facts import PoolCase
from reconciler.store.store import Store


class PoolEyes:
    """Of one pool: they remember, as its worker tells only what has changed since its last answer."""

    def __init__(
        self, name: str, port: PoolPort, store: Store, *, alone: bool, remembered: Remembered | None = None
    ) -> None:
        """`alone`: the pool's lock is ours for the look, so that its thin ids can be read: two who read them disturb
        one another. Else the store's word is taken for them.
        """
        self._name = name
        self._port = port
        self._store = store
        self._alone = alone
        self._remembered = remembered
        clock, settings = SystemClock(), Settings(grace=0.0, observe_only=not alone)
        self._gatherer = Gatherer(name, store, clock, system_random(), settings)
        self._viewer = Viewer(port, self._gatherer, clock, settings)

    def look(self, desired: Desired) -> PoolView:
        """Everything as it is now, the thin ids read anew."""
        name, store, viewer, alone = self._name, self._store, self._viewer, self._alone
        before = viewer.world.ids
        trouble = viewer.look(desired, [], whole=True)
        if not trouble and not _is_external(desired, store, name):
            viewer.look_after(desired, Key(name))  # every table, not only what seems to have changed
            if viewer.world.ids is before:
                viewer.read_ids(desired)
        case = self._gatherer.pool_case(desired, viewer.world, viewer.trouble)
        ids, ids_trouble = (case.ids, viewer.ids_trouble) if alone else (None, "")
        if alone and ids is None and _is_compared_at_rest(case):
            ids, ids_trouble = _read_at_rest(case)
            case = replace(case, ids=ids)
        return PoolView(
            case=case,
            ids=ids,
            ids_trouble=ids_trouble,
            devices=dict(viewer.world.devices),
            known=store.known_devices(name),
            records=desired.devices_of(name),
            former=store.former(name),
            block=block_bytes(case.live) or (case.known.block * SECTOR if case.known is not None else 0),
            remembered=self._remembered,
            told_leaked=() if alone else _told_leaked(store, name),
        )

    def close(self) -> None:
        self._port.close()


def _is_external(desired: Desired, store: Store, name: str) -> bool:
    """Reading the ids writes to the pool: not to one of somebody else's."""
    record, known = desired.pool(name), store.known_pool(name)
    if record is not None:
        return record.spec.external
    return known is not None and known.external


def _is_compared_at_rest(case: PoolCase) -> bool:
    """Not live, whole, and at another transaction than the store's, or not known to it at all."""
    live = case.live
    if live.device is not None or case.stuck or live.metadata.superblock is not Superblock.POOL:
        return False
    if live.metadata.used_by or (case.record is not None and case.record.spec.external):
        return False
    if case.known is None:
        return True
    return case.known.created and live.metadata.transaction_id not in expected_transactions(case)


def _read_at_rest(case: PoolCase) -> tuple[ThinIds | None, str]:
    metadata = case.live.metadata
    if metadata.kind not in {PathKind.FILE, PathKind.BLOCK}:
        return None, ""
    path = _metadata_path(case)
    if metadata.devno is None and not path:
        return None, "no loop is on its metadata file"
    try:
        return HostTools().thin_ls(path if metadata.devno is None else f"/dev/block/{metadata.devno}", live=False), ""
    except HostFault as fault:
        return None, str(fault)


def _metadata_path(case: PoolCase) -> str:
    if case.record is not None and case.record.spec.metadata is not None:
        return case.record.spec.metadata.path
    return case.known.metadata if case.known is not None else ""


def _told_leaked(store: Store, name: str) -> tuple[int, ...]:
    status = store.statuses().get(Key(name))
    return (status.leaked_ids or ()) if isinstance(status, PoolStatusReport) else ()

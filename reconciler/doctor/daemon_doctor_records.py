"""How the records are, for `doctor`: as the store has it from the daemon, which looks at them all the time."""

from __future__ import annotations

import time

from reconciler.controller.desired import Desired
from reconciler.doctor.checks import Check
from reconciler.doctor.doctor_records import check_records, no_records
from reconciler.model.names import Key
from reconciler.store.store import Store


def check_statuses(desired: Desired, store: Store, *, daemon_runs: bool, state: str) -> Check:
    """Where no daemon runs, what the last one has left may be from before a reboot: it counts for nothing."""
    if not daemon_runs:
        return no_records(daemon_runs=False)
    current = _current(store)
    statuses = {key: status for key, status in store.statuses().items() if key in current}
    unseen = {*desired.records.pools, *desired.records.devices} - statuses.keys()
    if not statuses and not unseen:
        return no_records(daemon_runs=True)
    return check_records(statuses, unseen, now=time.time(), state=state)


def _current(store: Store) -> set[Key]:
    """What the records in force name, and what was made for former ones."""
    saved = store.load_records()
    keys = {record.key for record in saved.records} if saved is not None else set()
    for pool in store.known_pools():
        keys |= {Key(pool), *(Key(pool, device) for device in store.known_devices(pool))}
    return keys

"""Checks the program's own files: state directory, store, locks, manifests, and the daemon's last statuses."""

from __future__ import annotations

import stat
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.controller.desired import Desired
from reconciler.doctor.checks import Check, Severity
from reconciler.kernel.locks import FOLDER, PoolLock
from reconciler.model.conditions import DRIFT, Reason, Status
from reconciler.model.names import Key
from reconciler.sources.manifests.read import Loaded
from reconciler.store.database import NAME
from reconciler.store.errors import StoreError
from reconciler.store.lock import LockHeld, StateLock, check_directory
from reconciler.store.migrations import MIGRATIONS
from reconciler.store.store import Store
from reconciler.trusted_files import untrusted

_SUBJECT = "records"
_SHOWN = 6
"""How many records a line names; `get` lists them all."""
_SOON = 60.0
"""Seconds within which drift or a wait should end by itself; shorter than any alert allows."""
_WAITING = frozenset({Reason.WAITING_FOR_POOL, Reason.WAITING_FOR_ORIGIN})


def no_records(*, daemon_runs: bool) -> Check:
    """Reports that there are no records to check."""
    text = "there are none yet" if daemon_runs else "no daemon is at work, which would tell how they are"
    return Check(_SUBJECT, Severity.LEFT, text)


def check_records(statuses: Mapping[Key, Status], unseen: Collection[Key], *, now: float, state: str) -> Check:
    """Checks the statuses while the daemon runs. `unseen` have none yet; `state` are options that find the store."""
    bad = [status for status in statuses.values() if not status.good]
    later = f"; {_are(len(unseen))} not looked at yet" if unseen else ""
    if not bad:
        return Check(_SUBJECT, Severity.LEFT if later else Severity.OK, f"{_as_desired(statuses)}{later}")
    bad.sort(key=lambda status: (_may_pass(status, now), status.reason in _WAITING, status.key))
    text = f"{_are(len(bad))} not as desired: {_listed(bad)}"
    if _may_pass(bad[0], now):
        return Check(_SUBJECT, Severity.LEFT, f"{text}, for less than a minute: the daemon sees to it{later}")
    return Check(_SUBJECT, Severity.WRONG, text + later, _todo(bad, state))


def _as_desired(statuses: Mapping[Key, Status]) -> str:
    text = f"{_are(len(statuses))} as desired"
    alone = sum(not status.ready for status in statuses.values())
    return f"{text}, or left alone on purpose ({alone})" if alone else text


def _may_pass(status: Status, now: float) -> bool:
    """Whether the drift was found lately, and is of a kind that the daemon ends by itself."""
    return status.reason in DRIFT | _WAITING and now - status.since < _SOON


def _listed(bad: list[Status]) -> str:
    shown = ", ".join(f"{status.key} ({status.reason})" for status in bad[:_SHOWN])
    return f"{shown} and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else shown


def _todo(bad: list[Status], state: str) -> str:
    """What to do about the first of them; the others may wait for that one."""
    key = bad[0].key
    text = f"`dm-reconciler describe {'device' if key.device else 'pool'} {key}{state}` tells why, and what was tried"
    return f"{text}; `dm-reconciler get{state}` lists the others" if len(bad) > 1 else text


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"


def check_statuses(desired: Desired, store: Store, *, daemon_runs: bool, state: str) -> Check:
    """Checks the statuses. Without a daemon they are ignored, as they may be from before a reboot."""
    if not daemon_runs:
        return no_records(daemon_runs=False)
    current = _current(store)
    statuses = {key: status for key, status in store.statuses().items() if key in current}
    unseen = {record.key for record in desired} - statuses.keys()
    if not statuses and not unseen:
        return no_records(daemon_runs=True)
    return check_records(statuses, unseen, now=time.time(), state=state)


def _current(store: Store) -> set[Key]:
    """The keys of the records in force, and of what was made for earlier records."""
    saved = store.load_records()
    keys = {record.key for record in saved.records} if saved is not None else set()
    for pool in store.known_pools():
        keys |= {Key(pool), *(Key(pool, device) for device in store.known_devices(pool))}
    return keys


_PROBLEMS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class State:
    """The state directory, as it was found."""

    checks: tuple[Check, ...]
    holder: LockHeld | None = None
    """The process that has the lock: usually the daemon."""


def check_state(state_dir: Path) -> State:
    subject = "state directory"
    if not state_dir.exists():
        return State((Check(subject, Severity.LEFT, f"{state_dir} is not there yet: the daemon makes it"),))
    try:
        check_directory(state_dir)
    except StoreError as error:
        return State((Check(subject, Severity.WRONG, *_split(error)),))
    facts = state_dir.stat()
    mode = stat.S_IMODE(facts.st_mode)
    directory = Check(subject, Severity.OK, f"{state_dir}, of user {facts.st_uid}, mode {mode:04o}")
    holder = StateLock(state_dir).holder()
    return State((directory, _check_store(state_dir), _told_holder(holder)), holder)


def _check_store(state_dir: Path) -> Check:
    try:
        Store.examine(state_dir)
        if not (state_dir / NAME).exists():
            return Check("store", Severity.LEFT, f"{state_dir / NAME} is not there yet: the daemon makes it")
        with Store.open_read_only(state_dir) as store:
            pools = store.known_pools()
            devices = sum(len(store.known_devices(pool)) for pool in pools)
    except StoreError as error:
        return Check("store", Severity.WRONG, *_split(error))
    return Check(
        "store",
        Severity.OK,
        f"version {len(MIGRATIONS)}, knows {_many(len(pools), 'pool')} and {_many(devices, 'device')}",
    )


def _split(error: StoreError) -> tuple[str, str]:
    """Splits the message of the store into what is wrong and what to do."""
    wrong, _, todo = str(error).rpartition(": ")
    return (wrong, f"{todo} ({wrong})") if wrong else (todo, todo)


def _told_holder(holder: LockHeld | None) -> Check:
    if holder is None:
        return Check("daemon", Severity.LEFT, "none runs on this state directory")
    who = f"process {holder.pid} ({holder.command})" if holder.pid else "another process"
    return Check("daemon", Severity.OK, f"{who} has the state directory")


def check_run_folder(state_dir: Path) -> list[Check]:
    """Reports pools in /run/dm-reconciler on which a process works for another state directory."""
    try:
        doubt = untrusted(FOLDER, ours=True)
    except OSError:
        return [Check(str(FOLDER), Severity.LEFT, "not there yet: the daemon makes it")]
    if doubt is not None:
        text = f"{doubt.partition(': ')[0]}: whoever may write to it could keep the daemon from its pools"
        return [Check(str(FOLDER), Severity.WRONG, text, f"`chown root {FOLDER} && chmod 0700 {FOLDER}`")]
    others = [told for lock in sorted(FOLDER.glob("*.lock")) if (told := _other_holder(lock, state_dir))]
    if others:
        return [Check("pool locks", Severity.LEFT, text) for text in others]
    return [Check(str(FOLDER), Severity.OK, "there, and root's alone")]


def _other_holder(lock: Path, state_dir: Path) -> str | None:
    """The other process that works on the pool; None if there is none, or if it is this state directory's daemon."""
    try:
        held = PoolLock(lock.stem, FOLDER).holder()
    except OSError:
        return None
    return None if held is None or held.state_dir == str(state_dir) else str(held)


def check_manifests(manifests: Path, loaded: Loaded) -> list[Check]:
    if loaded.records is not None:
        pools, devices = len(loaded.records.pools), len(loaded.records.devices)
        text = f"{_many(pools, 'pool')} and {_many(devices, 'device')} in {_many(len(loaded.files), 'file')}"
        return [Check("manifests", Severity.OK, text)]
    shown = [str(problem) for problem in loaded.problems[:_PROBLEMS_SHOWN]]
    more = len(loaded.problems) - len(shown)
    if more > 0:
        shown.append(f"and {more} more")
    todo = f"`dm-reconciler validate {manifests}` shows all that is wrong with the manifests: put it right"
    return [Check("manifests", Severity.WRONG, text, todo if number == 0 else "") for number, text in enumerate(shown)]


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"

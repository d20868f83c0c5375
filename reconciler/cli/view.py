"""What the store knows of pools and devices, as the commands show it, and whether that is current.

The store may not exist yet, and may be replaced, so it is watched. It is outdated while its disk is full or read-only,
while the daemon hangs, is stopped or dead, and before the daemon's first pass after a start. Only the daemon knows more
then, so it is asked; what it cannot answer is shown as outdated, with the time.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from time import sleep
from typing import Any, Final, Self
from urllib.parse import urlsplit

from reconciler.cli.console import ExitCode, Failure, Progress, clean, note
from reconciler.cli.format import ago_text, local_time
from reconciler.model.conditions import DeviceStatus, Status, item, key_of, status_of
from reconciler.model.names import Key
from reconciler.model.stored import StoredDevice, StoredPool
from reconciler.store.database import NAME, Database, open_for_reading
from reconciler.store.lock import LockHeld, StateLock
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord


class NoStore(Failure):
    """There is no store, because the daemon has not run yet."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One pool or device. At least one of record, stored state and status exists."""

    key: Key
    record: LastGoodRecord | None = None
    status: Status | None = None
    known: StoredPool | StoredDevice | None = None

    @property
    def spec(self) -> dict[str, Any] | None:
        """The spec in the record, as in the manifest."""
        return None if self.record is None else json.loads(self.record.spec_json)

    @property
    def desired(self) -> str:
        """The desired state; empty without a record."""
        spec = self.spec
        return "" if spec is None else str(spec.get("state", "Active"))

    @property
    def place(self) -> str:
        """The place of its record as FILE:LINE, or as much of that as is known."""
        if self.record is None:
            return "nowhere: it is gone from the manifests, or was never there"
        return f"{clean(self.record.file)}:{self.record.line}" if self.record.file else "in the manifests"

    @property
    def written(self) -> tuple[str, int] | None:
        """The file and line for programs; None if they are unknown, as in a store that 0.1.0 wrote."""
        return None if self.record is None or not self.record.file else (self.record.file, self.record.line)

    @property
    def origin(self) -> str:
        """The device that it is, or is to be, a snapshot of."""
        if isinstance(self.status, DeviceStatus) and self.status.origin:
            return self.status.origin
        if isinstance(self.known, StoredDevice) and self.known.origin:
            return self.known.origin
        return str((self.spec or {}).get("snapshotOf") or "")

    @property
    def item(self) -> dict[str, Any]:
        return item(self.key.kind, str(self.key), self.spec, self.status, self.written)


@contextmanager
def reading(state_dir: Path) -> Iterator[Store]:
    """The store, opened beside the daemon. Raises NoStore if there is none yet."""
    try:
        (state_dir / NAME).lstat()
    except FileNotFoundError:
        raise NoStore(
            f"there is no state in {state_dir}, the daemon has not run yet: start `dm-reconciler run --manifests DIR`, "
            "or say with --state-dir where it keeps its state"
        ) from None
    except OSError:
        pass  # the store gives the better message
    with Store.open_read_only(state_dir) as store:
        yield store


def look(store: Store) -> dict[Key, Seen]:
    """Everything, pools before their devices, in the order of their names."""
    saved = store.load_records()
    records = {} if saved is None else {record.key: record for record in saved.records}
    statuses = store.statuses()
    known: dict[Key, StoredPool | StoredDevice] = {}
    for name, pool in store.known_pools().items():
        known[Key(name)] = pool
        known |= {Key(name, device): thin for device, thin in store.known_devices(name).items()}
    keys = sorted(records.keys() | statuses.keys() | known.keys())
    return {key: Seen(key, records.get(key), statuses.get(key), known.get(key)) for key in keys}


def of_kind(seen: Mapping[Key, Seen], kind: str) -> dict[Key, Seen]:
    """The pools or the devices; everything if the kind is empty."""
    return {key: one for key, one in seen.items() if not kind or bool(key.device) == (kind == "device")}


def find(seen: Mapping[Key, Any], kind: str, name: str) -> Key:
    """The pool, or the device given as POOL/NAME, or as NAME if that is unique. Raises Failure."""
    candidates = [key for key in seen if bool(key.device) == (kind == "device")]
    for key in candidates:
        if str(key) == name:
            return key
    found = [key for key in candidates if key.device == name] if kind == "device" else []
    if len(found) > 1:
        raise Failure(
            f"there are several devices {name}: write one of {', '.join(str(key) for key in found)}", ExitCode.USAGE
        )
    if not found and any(str(key) == name for key in seen):
        raise Failure(f"{name} is a {'pool' if kind == 'device' else 'device'}, not a {kind}: name it as that")
    if not found:
        raise Failure(_unknown(kind, name, [str(key) for key in candidates]))
    return found[0]


def names(state_dir: Path, kind: str) -> list[str]:
    """The names of all pools or devices."""
    with reading(state_dir) as store:
        return [str(key) for key in of_kind(look(store), kind)]


def _unknown(kind: str, name: str, candidates: list[str]) -> str:
    near = get_close_matches(name, candidates, 1) or [other for other in candidates if other.endswith(f"/{name}")]
    if near:
        return f"there is no {kind} {name}: did you mean {near[0]}?"
    return f"there is no {kind} {name}: `dm-reconciler get {kind}s` lists those that there are"


_EVERY: Final = 0.5
"""Seconds between two checks whether somebody has written to the store."""


class StoreWatcher:
    """Watches the store, and reads it only if somebody has written since, so that frequent checks are cheap.

    At boot a hundred services may wait for their devices, each with a watcher of its own.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._opened = ExitStack()
        self._store: Store | None = None
        self._database: Database | None = None
        self._version = -1
        self._seen: dict[Key, Seen] = {}
        self.stores = 0
        """How many stores were opened; the number changes when the store was replaced."""

    def store(self) -> Store:
        """The store that exists now. Raises NoStore."""
        if self._store is None or self._database is None or self._database.is_replaced():
            return self._open()
        return self._store

    def latest(self) -> dict[Key, Seen]:
        """Everything, as of now. Raises NoStore."""
        self.store()
        return self.seen()

    def seen(self) -> dict[Key, Seen]:
        """Everything in the store that was returned last."""
        assert self._database is not None  # noqa: S101  # there is one
        assert self._store is not None  # noqa: S101
        version = self._database.version()
        if version != self._version:
            self._version, self._seen = version, look(self._store)
        return self._seen

    def looks(self) -> Iterator[Store]:
        """Yields the store twice a second, for ever. A store that does not exist, or was removed, is waited for."""
        waiting: Progress | None = None
        try:
            while True:
                try:
                    store = self.store()
                except NoStore as missing:
                    waiting = waiting or Progress()
                    waiting.say(f"waiting: {missing.message}")
                else:
                    if waiting is not None:
                        waiting.pause()
                    waiting = None
                    yield store
                sleep(_EVERY)
        finally:
            if waiting is not None:
                waiting.pause()

    def _open(self) -> Store:
        self.close()
        with ExitStack() as opened:
            store = opened.enter_context(reading(self.state_dir))
            self._database = opened.enter_context(closing(open_for_reading(self.state_dir / NAME)))
            self._opened = opened.pop_all()
        self._store, self._version = store, -1
        self.stores += 1
        return store

    def close(self) -> None:
        self._store = self._database = None
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_PATIENCE: Final = 2.0
"""Seconds for each answer of the daemon, which waits for neither kernel nor disk to give it."""
_STAT: Final = Path("/proc/stat")
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # only to ask the one that listens there


@dataclass(frozen=True, slots=True)
class Freshness:
    stale: str = ""
    """Why the store is outdated, and since when; empty if it is current."""
    statuses: Mapping[Key, Status | None] | None = None
    """The statuses from the daemon itself, if the store does not have them (yet); None if it does."""
    unnoted: str = ""
    """Since when and why the daemon cannot write to the store."""
    is_running: bool = False
    """Whether a process works with the state directory."""


def freshness(state_dir: Path) -> Freshness:
    lock = StateLock(state_dir)
    holder = lock.holder()
    if holder is None and not lock.was_taken():
        return Freshness()  # no process ever worked here: it is a copy, which is read as it is
    if holder is None:
        return Freshness(f"no daemon is at work with {state_dir}: {_of_then(state_dir)}")
    if not holder.url:  # the holder is a command, or a daemon of 0.1.0
        return Freshness(is_running=True)
    try:
        return _asked(holder)
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        why = f"the daemon (process {holder.pid}) does not answer at {holder.url} ({_said(error)})"
        return Freshness(f"{why}: {_of_then(state_dir)}", is_running=True)


def from_before_boot(state_dir: Path) -> bool:
    """Whether the store was last written before this boot."""
    noted, booted = _noted_at(state_dir), booted_at()
    return noted is not None and booted is not None and noted < booted


def booted_at() -> float | None:
    """When the host was booted, in wall-clock seconds; None if /proc does not say."""
    try:
        lines = _STAT.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("btime ")]
    return float(found[0]) if found else None


def _asked(holder: LockHeld) -> Freshness:
    (daemon,) = _ask(holder.url, "daemon")
    status = daemon["status"]
    if status["healthy"] and status["ready"]:
        return Freshness(is_running=True)
    items = [*_ask(holder.url, "pools"), *_ask(holder.url, "devices")]
    statuses = {key_of(item): status_of(item) for item in items}
    stale = unnoted = ""
    if not status["healthy"]:
        stale = (
            f"the daemon (process {holder.pid}) is not healthy: {status['message']}: what follows is what it saw last"
        )
    if status.get("storeTrouble"):
        since = local_time(datetime.fromisoformat(status["storeTroubleSince"]).timestamp())
        unnoted = f"since {since} nothing can be noted: {status['storeTrouble']}"
    return Freshness(stale, statuses, unnoted, is_running=True)


def as_of_now(seen: Mapping[Key, Seen], fresh: Freshness) -> dict[Key, Seen]:
    """What was seen, with the statuses of the daemon instead of those in the store, if it gave any."""
    if fresh.statuses is None:
        return dict(seen)
    told = {key: Seen(key) for key in fresh.statuses} | dict(seen)
    return {key: replace(told[key], status=fresh.statuses.get(key)) for key in sorted(told)}


def _ask(url: str, what: str) -> list[dict[str, Any]]:
    place = urlsplit(url)
    host = place.hostname or ""
    connection = http.client.HTTPConnection(_ANYWHERE.get(host, host), place.port, timeout=_PATIENCE)
    try:
        connection.request("GET", f"/api/v1/{what}", headers={"Connection": "close"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise ValueError(f"it answers {answer.status}")
        items: list[dict[str, Any]] = json.loads(answer.read())["items"]
        return items
    finally:
        connection.close()


def _of_then(state_dir: Path) -> str:
    noted, booted = _noted_at(state_dir), booted_at()
    if noted is None:
        return "what follows is of the past"
    when = f"what follows was noted last at {local_time(noted)}, {ago_text(time.time() - noted)} ago"
    if booted is not None and noted < booted:
        when += f", before this host was started at {local_time(booted)}"
    return when


def _noted_at(state_dir: Path) -> float | None:
    """When the store was last written."""
    times = []
    for name in (NAME, f"{NAME}-wal"):
        try:
            times.append((state_dir / name).stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def tell(fresh: Freshness) -> None:
    """Prints on stderr, before the output, that it is outdated."""
    for line in (fresh.stale, fresh.unnoted):
        if line:
            note(line)

"""Is what the store says of now? The daemon is asked, as it alone knows; what it cannot answer is said, with since when.

The store is not written while its disk is full or read-only, while the daemon hangs, is stopped or dead, and before its
first pass after a start. What is read from it then is of the past.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from reconciler.cli.console import note
from reconciler.cli.format import ago_text, local_time
from reconciler.cli.view import Seen
from reconciler.model.conditions import Status, key_of, status_of
from reconciler.model.names import Key
from reconciler.store.database import NAME
from reconciler.store.lock import LockHeld, StateLock

_PATIENCE: Final = 2.0
"""Seconds that the daemon may take for each answer: it makes none wait for the kernel or the disk."""
_STAT: Final = Path("/proc/stat")
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # only to ask the one that listens there


@dataclass(frozen=True, slots=True)
class Freshness:
    stale: str = ""
    """Why what the store says is not of now, and of when it is; empty where it is of now."""
    statuses: Mapping[Key, Status | None] | None = None
    """What the daemon itself says of now, where that is not in the store (yet): None, where it is."""
    unnoted: str = ""
    """Since when, and why, the daemon cannot note what happens."""
    is_running: bool = False
    """Somebody is at work with the state directory."""


def freshness(state_dir: Path) -> Freshness:
    lock = StateLock(state_dir)
    holder = lock.holder()
    if holder is None and not lock.was_taken():
        return Freshness()  # nobody was ever at work here: it is a copy, to be read as it is
    if holder is None:
        return Freshness(f"no daemon is at work with {state_dir}: {_of_then(state_dir)}")
    if not holder.url:  # a command, or a daemon of 0.1.0
        return Freshness(is_running=True)
    try:
        return _asked(holder)
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        why = f"the daemon (process {holder.pid}) does not answer at {holder.url} ({_said(error)})"
        return Freshness(f"{why}: {_of_then(state_dir)}", is_running=True)


def from_before_boot(state_dir: Path) -> bool:
    """Whether nothing was noted since this host was started."""
    noted, booted = _noted_at(state_dir), booted_at()
    return noted is not None and booted is not None and noted < booted


def booted_at() -> float | None:
    """Wall-clock seconds; None where /proc does not tell."""
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
    """With the daemon's own word in the place of what the store says, where it has given it."""
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
    """When somebody wrote to the store last."""
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
    """On stderr, before what is told."""
    for line in (fresh.stale, fresh.unnoted):
        if line:
            note(line)

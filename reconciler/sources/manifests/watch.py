"""Watches manifests: changes are noticed at once if the filesystem announces them, and else by polling.

An announcement only means "load again". Announcements can be lost (the directory is replaced, or is on a filesystem
that announces nothing), so `poll` checks too, as cheaply as it can.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from reconciler.model.recordset import PoolRecords
from reconciler.sources.base import SourceReading
from reconciler.sources.manifests.read import is_manifest_name, load

_SETTLE: Final = 0.1
_LONGEST: Final = 1.0
_STOP_WITHIN: Final = 2.0
_CHANGES: Final = {"created", "modified", "deleted", "moved", "closed"}
"""The kinds of events that count. "opened" and "closed_no_write" do not: loading would cause itself again."""

_Look = tuple[tuple[str, int, int, int, int], ...]


class Timer(Protocol):
    """The interface of `threading.Timer`: it calls once, later, unless it is cancelled."""

    def start(self) -> None: ...
    def cancel(self) -> None: ...


TimerMaker = Callable[[float, Callable[[], None]], Timer]


def _thread_timer(seconds: float, call: Callable[[], None]) -> Timer:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    return timer


class ManifestWatch:
    """Calls `changed` when something in the directory has changed and has settled since.

    `changed` is called from another thread. The constructor starts nothing.
    """

    def __init__(
        self,
        directory: Path,
        changed: Callable[[], None],
        *,
        polling: bool = False,
        timer: TimerMaker = _thread_timer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._changed = changed
        self._polling = polling
        self._make_timer = timer
        self._clock = clock
        self._lock = threading.Lock()
        self._running = False
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._timer: Timer | None = None
        self._unsettled_since = 0.0
        self._seen: _Look | None = None

    def start(self) -> None:
        """Starts to watch. If the directory does not exist yet, `poll` finds it later."""
        self._running = True
        self._seen = self._look()
        self._arm()

    def stop(self) -> None:
        """Stops watching. The callback is not called any more."""
        with self._lock:
            self._running = False
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._disarm()

    @property
    def armed(self) -> bool:
        """Whether changes are announced, and not only found by `poll`."""
        if self._observer is None or self._watched != self._identity():
            return False
        # The thread ends when the directory is removed, and a new directory may get the old inode number.
        return all(emitter.is_alive() for emitter in self._observer.emitters)

    def poll(self) -> bool:
        """Returns whether anything changed without an announcement, and watches again what was lost."""
        if not self._running:
            return False
        if not self.armed:
            self._disarm()
            self._arm()
        look = self._look()
        with self._lock:
            noticed = look != self._seen
            self._seen = look
        if noticed:
            self.touch()
        return noticed

    def touch(self) -> None:
        """Notes a change: `changed` is called when it has settled, or once a second while it does not settle."""
        with self._lock:
            if not self._running:
                return
            now = self._clock()
            if self._timer is None:
                self._unsettled_since = now
            elif now - self._unsettled_since >= _LONGEST:
                return
            else:
                self._timer.cancel()
            self._timer = timer = self._make_timer(_SETTLE, lambda: self._settled(timer))
            timer.start()

    def _settled(self, timer: Timer) -> None:
        with self._lock:
            if not self._running or timer is not self._timer:
                return
            self._timer = None
            self._seen = self._look()
        self._changed()

    def _arm(self) -> None:
        identity = self._identity()
        if identity is None:
            return
        try:
            observer: BaseObserver = PollingObserver() if self._polling else Observer()
            observer.schedule(_Handler(self.touch), str(self._directory), recursive=False)
            observer.start()
        except (OSError, RuntimeError):  # inotify is missing or used up, so only `poll` finds changes
            return
        self._observer, self._watched = observer, identity

    def _disarm(self) -> None:
        observer, self._observer, self._watched = self._observer, None, None
        if observer is None:
            return
        observer.stop()
        if observer is not threading.current_thread():
            observer.join(_STOP_WITHIN)

    def _identity(self) -> tuple[int, int] | None:
        try:
            info = self._directory.stat()
        except OSError:
            return None
        return info.st_dev, info.st_ino

    def _look(self) -> _Look | None:
        """What names, times, sizes and inodes show; None if there is no such directory."""
        try:
            with os.scandir(self._directory) as entries:
                return tuple(sorted(map(_entry, filter(_counts, entries))))
        except OSError:
            return None


class _Handler(FileSystemEventHandler):
    def __init__(self, touch: Callable[[], None]) -> None:
        self._touch = touch

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _CHANGES:
            self._touch()


def _counts(entry: os.DirEntry[str]) -> bool:
    return is_manifest_name(entry.name) or entry.name == "..data"


def _entry(entry: os.DirEntry[str]) -> tuple[str, int, int, int, int]:
    try:
        info = os.stat(entry.path, follow_symlinks=entry.name != "..data")  # noqa: PTH116
    except OSError:
        return entry.name, 0, 0, 0, 0
    return entry.name, info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino


class ManifestSource:
    """The manifests of a directory as a source of records."""

    def __init__(self, directory: Path, changed: Callable[[], None] = lambda: None) -> None:
        self._directory = directory
        self._watch = ManifestWatch(directory, changed)

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()

    def poll(self) -> None:
        self._watch.poll()

    def read(self, pools: Mapping[str, PoolRecords]) -> SourceReading:
        """Reads all pools of all hosts; with a single invalid record there is no reading."""
        del pools
        loaded = load(self._directory)
        records = None if loaded.records is None else loaded.records.by_pool()
        return SourceReading(records, loaded.problems, loaded.digest)

"""The daemon: a thread that listens and dispatches, one for each pool controller, and those of the HTTP server."""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reconciler.controller.desired import Desired
from reconciler.controller.fact_gatherer import Settings
from reconciler.daemon.app import App, host_client
from reconciler.daemon.status_api import StatusApi
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.locks import PoolLock
from reconciler.kernel.monitor import HostChange, HostMonitor
from reconciler.kernel.privileges import drop_all_others, missing, require_admin
from reconciler.sources.base import RecordSource
from reconciler.sources.manifests.watch import ManifestSource
from reconciler.store.errors import StoreError, StoreUnusable
from reconciler.store.lock import StateLock
from reconciler.store.store import Store
from reconciler.telemetry.http.routes import StatusServer
from reconciler.telemetry.sd_notify import Notifier

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator asked for; times in seconds."""

    manifests: Path
    state_dir: Path
    listen: tuple[str, int]
    node: str
    resync: float = 1.0
    settings: Settings = field(default_factory=Settings)


def run(options: Options) -> int:
    """Runs until SIGTERM or SIGINT, and returns the exit code. Drops all privileges that the reconciler does not need.

    Raises StoreError, HostError or ListenError if the daemon cannot start.
    """
    require_admin()
    drop_all_others()
    for capability in missing():
        _log.warning("%s is missing: %s", capability.name, capability.without)
    lock = StateLock(options.state_dir)
    lock.acquire()
    try:
        with Store.open(options.state_dir, wall_clock=time.time) as store:
            return Daemon(options, store, lock.announce).run()
    finally:
        lock.release()


class Daemon:
    def __init__(self, options: Options, store: Store, announce: Callable[[str], None] = lambda _: None) -> None:
        """`announce` is told the URL at which the daemon answers."""
        self._options = options
        self._announce = announce
        self._store = store
        self._app = App(store, options.settings, host_client(options.state_dir, lock=True))
        self._dm = LibDm()
        self._monitor = HostMonitor(self._dm)
        self._sources: Sequence[RecordSource] = [ManifestSource(options.manifests, lambda: self._wake(b"m"))]
        self._loader = self._app.loader(self._sources, options.node)
        self._notifier = Notifier(os.environ)
        self._status_api = StatusApi(store, self._app.recorder, self._app.controller, self._app.clock, options.resync)
        self._status_api.obstacle = self._obstacle
        self._status_api.node = options.node
        self._status_api.observe_only = options.settings.observe_only
        self._status_api.problems = lambda: self._loader.problems
        self._http = StatusServer(options.listen, self._status_api, self._app.registry)
        self._selector = selectors.DefaultSelector()
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stopping = False
        self._told_ready = False
        self._told_trouble: str | None = None
        self._must_reload = False
        self._in_force = False

    def run(self) -> int:
        self._app.tell_build(self._dm)
        self._app.metrics.resync_interval(self._options.resync)
        self._app.controller.failed = lambda: self._wake(b"f")
        self._selector.register(self._reading, selectors.EVENT_READ, self._hear_wakes)
        self._monitor.open(self._selector)
        previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            self._http.start()
            self._announce(self._http.url)
            _log.info("manifests in %s, state in %s", self._options.manifests, self._options.state_dir)
            if self._options.settings.observe_only:
                _log.warning("--observe: what is found is told, and what would be done about it; no device is touched")
            for source in self._sources:
                source.start()
            self._begin()
            self._loop()
        finally:
            self._end()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self._app.controller.failure is not None:
            raise self._app.controller.failure
        return 0

    def _begin(self) -> None:
        """Puts the records of the directory in force, or the last good ones; with neither it waits and is not ready."""
        if self._reload():
            return
        last = self._loader.last_good()
        if last is not None:
            _log.warning("going on with the last good set of manifests")
            self._put_in_force(last)

    def _reload(self) -> bool:
        self._must_reload = False
        try:
            desired = self._loader.load()
        except StoreUnusable:
            # The store keeps the cause, and the old set stays in force until the new one can be saved.
            self._must_reload = True
            return False
        if desired is None:
            return False
        devices = sum(len(records.devices) for records in desired.pools.values())
        _log.info("manifests loaded: %d pools, %d devices", len(desired.pools), devices)
        self._put_in_force(desired)
        return True

    def _refuse_taken(self, desired: Desired) -> None:
        """Raises if another daemon has one of the pools. Only at the start: later, only that one pool is affected."""
        mine = str(self._options.state_dir)
        for name in desired.pools:
            held = PoolLock(name).holder()
            if held is not None and held.state_dir != mine:
                raise StoreError(f"{held}: stop that one first, or leave the pool out of these manifests")

    def _put_in_force(self, desired: Desired) -> None:
        if not self._in_force:
            self._refuse_taken(desired)
        self._in_force = True
        self._app.controller.set_desired(desired)

    def _obstacle(self) -> str | None:
        return None if self._in_force else "no valid manifests were ever loaded: see the log"

    def _loop(self) -> None:
        clock, resync = self._app.clock, self._options.resync
        # The watchdog of systemd is independent of the resync; it gets three signals within its interval.
        beat = min(resync, (self._notifier.watchdog_interval or math.inf) / 3)
        next_turn, next_beat = clock.now() + resync, clock.now() + beat
        while not self._stopping:
            for ready, _ in self._selector.select(max(0.0, min(next_turn, next_beat) - clock.now())):
                self._take(ready.data())
            # The next resync counts from now, so that those missed while the host was paused are not made up for.
            if clock.now() >= next_turn:
                self._turn()
                next_turn = clock.now() + resync
            if clock.now() >= next_beat:
                self._tell_alive()
                next_beat = clock.now() + beat
            self._status_api.turned()

    def _turn(self) -> None:
        """Scans everything, once in each resync interval."""
        for source in self._sources:
            source.poll()
        self._store.try_again()
        if self._must_reload:
            self._reload()
        self._tell_trouble()
        self._app.controller.resync()
        self._app.metrics.turned()
        self._app.metrics.queue.longest_running(self._app.controller.longest_running())

    def _tell_alive(self) -> None:
        self._notifier.watchdog()
        if not self._told_ready and self._status_api.ready()[0]:
            self._told_ready = True
            self._notifier.ready()
            _log.info("ready: the first full pass is done")

    def _tell_trouble(self) -> None:
        """Reports a store that cannot be written to. Nothing is done to devices until it can."""
        trouble = self._status_api.store_trouble()
        self._app.metrics.store_writable(not trouble)
        if trouble and trouble != self._told_trouble:
            _log.error("%s", trouble)
        if self._told_trouble and not trouble:
            _log.info("the store can be written to again: going on")
        self._told_trouble = trouble

    def _take(self, heard: HostChange) -> None:
        if heard.everything:
            self._app.controller.resync()
        self._app.controller.look_at(heard.names)

    # Signals and other threads write a byte into a pipe, which this thread reads.

    def _on_signal(self, number: int, frame: object) -> None:
        del frame
        self._wake(b"h" if number == signal.SIGHUP else b"t")

    def _wake(self, byte: bytes) -> None:
        try:
            os.write(self._writing, byte)
        except BlockingIOError:
            _log.debug("already woken")

    def _hear_wakes(self) -> HostChange:
        told = os.read(self._reading, 4096)
        if b"t" in told or b"f" in told:
            self._stopping = True
        elif b"h" in told:
            self._reload_as_told()
        elif b"m" in told:
            self._reload()
        return HostChange()

    def _reload_as_told(self) -> None:
        """Reloads at SIGHUP. Its end is reported as READY, so it must not come before the daemon is ready at first."""
        if not self._told_ready:
            self._reload()
            return
        self._notifier.reloading()
        self._reload()
        self._notifier.ready()

    def _end(self) -> None:
        self._notifier.stopping()
        _log.info("stopping")
        stops: list[Callable[[], None]] = [
            *(source.stop for source in self._sources),
            self._http.stop,
            self._app.controller.stop,
        ]
        for stop in stops:
            stop()
        self._app.recorder.flush()
        self._monitor.close()
        self._selector.close()
        os.close(self._reading)
        os.close(self._writing)

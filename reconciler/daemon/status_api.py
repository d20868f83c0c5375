"""What HTTP reports, from memory: no request makes or waits for a kernel call."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from reconciler import __version__
from reconciler.controller.clock import Clock
from reconciler.controller.manager import Manager
from reconciler.controller.recorder import Recorder
from reconciler.daemon.record_loader import spec_of
from reconciler.model.conditions import event_item, item, rfc3339
from reconciler.model.names import Key
from reconciler.model.recordset import Problem
from reconciler.store.store import Store

_PROBLEMS: Final = 20
"""How many problems of the manifests are reported at most."""


class StatusApi:
    """Answers the threads of the HTTP server."""

    def __init__(self, store: Store, recorder: Recorder, controller: Manager, clock: Clock, resync: float) -> None:
        self._store = store
        self._recorder = recorder
        self._controller = controller
        self._clock = clock
        self._patience = max(30.0, 3 * resync)
        self._turned = clock.now()
        self._start = secrets.token_hex(4)  # distinguishes revisions of this daemon from those of an earlier one
        self._lock = threading.Lock()
        self._desired = controller.desired
        self._sets = 0
        self._trouble_since: float | None = None
        self.node = ""
        """The name of this host."""
        self.observe_only = False
        """Whether the operator has forbidden to change any device."""
        self.problems: Callable[[], Sequence[Problem]] = lambda: ()
        """What is wrong with the manifests as they are now."""
        self.obstacle: Callable[[], str | None] = lambda: None
        """Why the manifests are not in force; None if they are."""

    def turned(self) -> None:
        """Notes that the dispatcher has gone round once more."""
        self._turned = self._clock.now()

    def healthy(self) -> tuple[bool, str]:
        since = self._clock.now() - self._turned
        if since <= self._patience:
            return True, "ok"
        return False, f"the dispatcher has not turned for {since:.0f} s"

    def ready(self) -> tuple[bool, str]:
        obstacle = self.obstacle() or self.store_trouble()
        if obstacle is not None:
            return False, obstacle
        if not self._controller.all_passed():
            return False, "the first full pass is not done"
        return True, "ok"

    def store_trouble(self) -> str | None:
        """Why nothing is done to devices because the store cannot be written to; None if it can."""
        trouble = self._store.trouble
        self._trouble_since = None if trouble is None else self._trouble_since or self._clock.wall()
        return f"{trouble}; nothing is done to any device until then" if trouble is not None else None

    def daemon(self) -> list[dict[str, Any]]:
        (healthy, unhealthy), (ready, unready) = self.healthy(), self.ready()
        problems = self.problems()
        told = [str(problem) for problem in problems[:_PROBLEMS]]
        if len(problems) > _PROBLEMS:
            told.append(f"and {len(problems) - _PROBLEMS} more: see `dm-reconciler validate`")
        status = {
            "version": __version__,
            "time": rfc3339(self._clock.wall()),
            "healthy": healthy,
            "ready": ready,
            "message": "" if healthy and ready else unready if healthy else unhealthy,
            "observeOnly": self.observe_only,
            "manifestProblems": told,
            "storeTrouble": self.store_trouble() or None,
            "storeTroubleSince": None if self._trouble_since is None else rfc3339(self._trouble_since),
        }
        return [{"kind": "Daemon", "metadata": {"name": self.node}, "spec": None, "status": status}]

    def items_revision(self) -> str:
        desired = self._controller.desired
        with self._lock:
            if desired is not self._desired:
                self._desired = desired
                self._sets += 1
            return f"{self._start}-{self._sets}-{self._recorder.revision}"

    def items(self, kind: str) -> list[dict[str, Any]]:
        desired, statuses = self._controller.desired, self._recorder.statuses()
        keys = {key for key in statuses if key.kind == kind} | {record.key for record in desired if record.kind == kind}
        return [self._item(key, statuses) for key in sorted(keys)]

    def events_revision(self) -> str:
        last = self._store.events(limit=1)
        return f"{self._start}-{last[0][0] if last else 0}"

    def events(self) -> list[dict[str, Any]]:
        return [event_item(event) for _, event in self._store.events()]

    def _item(self, key: Key, statuses: dict[Key, Any]) -> dict[str, Any]:
        records = self._controller.desired.of_pool(key.pool)
        record = records.get(key)
        spec = None if record is None else spec_of(record)
        return item(key.kind, str(key), spec, statuses.get(key), records.places.get(key))

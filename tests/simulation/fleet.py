"""A simulated host with a daemon on it, and everybody else who lives there.

The daemon is the real one from its queue downwards: pool controllers, planner, executor and store; its workers are simulated
processes. Time passes only where somebody waits.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from reconciler.controller.desired import Desired
from reconciler.controller.queue import ERROR_MOST
from reconciler.kernel.locks import PoolLocked
from reconciler.kernel.protocol import DeviceMapper
from reconciler.kernel.simulated import Call, Crashed
from reconciler.kernel.simulated.machine import Release
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import Reason
from reconciler.model.live import ScanScope
from reconciler.model.names import Key
from reconciler.model.records import Record
from reconciler.model.steps import CreateSnapshot
from reconciler.telemetry.metrics import Metrics, Result
from tests.simulation.calls import changes
from tests.simulation.client import SimulatedClient
from tests.simulation.host import PlayedHost
from tests.simulation.invariants import Invariants
from tests.simulation.seen_states import SeenStates
from tests.simulation.simulated_daemon import RESYNC, SimulatedDaemon
from tests.simulation.worker import Lie, Waits, Worker
from tests.testing.queue import next_due

Act = Callable[[Call], Waits | Lie | None]
BEFORE: Final = "before"
MIDWAY: Final = "midway"
AFTER: Final = "after"
PATIENCE: Final = 6 * ERROR_MOST
"""Seconds of the simulated clock: several tries, each after the longest wait between two."""

PASSES: Final = 200
"""Of one pool at one moment: more is work that makes itself."""


class Trigger:
    """Something that happens at a call to come."""

    def __init__(self, calls: int, when: str, act: Act, *, changing: bool) -> None:
        self.left = calls
        self.when = when
        self.act = act
        self.changing = changing


class Fleet(SimulatedDaemon):
    """SimulatedDaemon, whose workers hang and die, on a host where others meddle."""

    def __init__(self, state_dir: Path, seed: object) -> None:
        self.dice = random.Random(f"village {seed}")
        self.is_dead = False
        self.is_doomed = False
        """The daemon is killed while its workers end the step at hand."""
        self.power_lost = False
        """With the daemon, the host."""
        self.gone_since: dict[Key, float] = {}
        """Devices without a record, with when it vanished."""
        self.operations = 0
        """How many calls were made on the host by the daemon's workers."""
        self.effects = 0
        """How many of them have changed something."""
        self.heals: dict[str, list[float]] = {}
        """Seconds from found to healed, by what it was."""
        self.last_effect: Call | None = None
        self.workers: list[Worker] = []
        self.triggers: list[Trigger] = []
        self.counts: dict[str, int] = {}
        """What was done, by what it was: for the sum at the end."""
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._busy: list[str] = []
        self.on_boot: Callable[[], None] = lambda: None
        """Whoever else starts with the host."""
        """Pools whose pool controllers wait for a worker at this moment."""
        host = PlayedHost(release=random.Random(f"release {seed}").choice((Release.V6_1, Release.V6_12)))
        super().__init__(state_dir, host)
        self._born = self.clock.now()
        self.seen_states = SeenStates(self.clock.now)
        self.invariants = Invariants(self)

    # The daemon

    def start(self, calls: Any = None) -> None:
        self.is_dead = self.is_doomed = self.power_lost = False
        self._busy.clear()
        super().start(calls)
        self.calls.before = lambda call: self._at_store(BEFORE, call)
        self.calls.after = lambda call: self._at_store(AFTER, call)

    def _new_metrics(self) -> Metrics:
        return cast("Metrics", _Timed(super()._new_metrics(), self.heals))

    @property
    def lived(self) -> float:
        """Seconds since its clock began."""
        return self.clock.now() - self._born

    @property
    def desired(self) -> Desired:
        return self._desired

    @property
    def dm(self) -> DeviceMapper:
        """Of whoever is no part of the daemon."""
        return self.outside.dm

    def kill(self) -> None:
        """With its workers, as a service manager kills."""
        self.is_dead = True
        for worker in self.workers:
            worker.end()
        self.workers.clear()
        super().kill()

    def abandon(self) -> None:
        """The daemon alone is killed: workers at work go on, and hold their pools until they are done."""
        for worker in [each for each in self.workers if not each.is_stopped]:
            worker.end()
            self.workers.remove(worker)
        super().kill()

    def come_back(self) -> None:
        """After a crash. What was to happen at a call of the dead one happens no more."""
        self.count("restarts")
        self.triggers.clear()
        if self.power_lost:
            self.count("power cuts")
            self.kill()
            self.host.power_cut()
            self.seen_states.power_cut()
            self.on_boot()
        elif self.is_doomed:
            self.abandon()
        else:
            self.kill()
        self.start()
        for name in self.cut_off():
            self.seen_states.seen_live(name)

    def cut_off(self) -> set[str]:
        """Origins whose snapshot was begun and cut off: whether its own freeze has ended, or had begun, nobody can tell."""
        intents = [intent for pool in self.store.known_pools() for intent in self.store.intents(pool)]
        at_work = {worker.question.suspend for worker in self.workers if isinstance(worker.question, CreateSnapshot)}
        return {intent.suspended for intent in intents if not intent.made} - at_work - {""}

    def end(self) -> None:
        with suppress(Crashed):
            self.kill()

    def declare(self, *records: Record) -> None:
        named = {record.key for record in records}
        known = {device.key for pool in self.store.known_pools() for device in self.store.known_devices(pool).values()}
        before = {record.key for record in self._desired}
        for key in (known | before) - named:
            self.gone_since.setdefault(key, self.clock.now())
        for key in named:
            self.gone_since.pop(key, None)
        super().declare(*records)

    # Workers

    def client_of(self, name: str) -> WorkerClient:
        return SimulatedClient(self, ScanScope(name, None, None, frozenset()))

    def hire(self, watched: ScanScope, *, second: bool = False) -> Worker:
        self.workers = [worker for worker in self.workers if not worker.is_dead]
        for worker in self.workers:
            if worker.pool == watched.pool and worker.is_stopped and not (second or worker.is_second):
                raise PoolLocked(watched.pool, f"1 {self.state_dir}")
        worker = Worker(self.host, self, watched, self.state_dir, self.clock.now, is_second=second)
        self.workers.append(worker)
        return worker

    def pass_time(self, seconds: float, until: Callable[[], bool], pool: str) -> None:
        self._busy.append(pool)
        try:
            end = self.clock.now() + seconds
            while self.clock.now() < end and not until():
                self._tick(end)
        finally:
            self._busy.remove(pool)

    def _nudge(self) -> None:
        """Whoever waits in a call, or is left from an earlier daemon, tries again."""
        for worker in list(self.workers):
            if worker.is_stopped:
                worker.go_on()
                if self.is_dead:
                    raise Crashed

    # Time

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (self.clock.now() + seconds, next(self._numbers), what))

    def ring(self, *, everything: bool = False) -> None:
        """What was to happen by now; or all that was ever to happen."""
        while self._alarms and (everything or self._alarms[0][0] <= self.clock.now()):
            _, _, what = heapq.heappop(self._alarms)
            what()

    def run(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        self.work()
        while self.clock.now() < end:
            self._tick(end)

    def _tick(self, end: float) -> None:
        due = [next_due(self.queue, name) for name in self.pool_controllers if name not in self._busy]
        nexts = [time for time in due if time is not None] + [self._resynced + RESYNC, end]
        nexts += [alarm[0] for alarm in self._alarms[:1]]
        self.clock.time = max(self.clock.time + 0.001, min(nexts))
        self.ring()
        if self.clock.now() >= self._resynced + RESYNC:
            self.resync()
        self._nudge()
        self.work()

    def work(self) -> None:
        """All that is due now, but for pools whose pool controllers wait for their workers. Time does not pass: it must end."""
        for name, pool_controller in list(self.pool_controllers.items()):
            passes = itertools.count(1)
            while name not in self._busy and (keys := self.queue.take(name, timeout=0.0)):
                assert next(passes) < PASSES, f"{name} is worked on without end: {keys}"
                self.invariants.pass_began(name)
                pool_controller.reconcile(keys, self._desired.of_pool(name), self._desired.loaded_at)

    def rest(self, seconds: float) -> None:
        """For so long, or until all is as desired."""
        end = self.clock.now() + seconds
        self.run(RESYNC)
        while self.clock.now() < end and not self.is_settled():
            self.run(RESYNC)

    def settle(self) -> None:
        end = self.clock.now() + PATIENCE
        while self.clock.now() < end:
            self.run(RESYNC)
            if self.is_settled():
                return
        told = "\n".join(f"{key}: {s.reason} {s.message}" for key, s in self.recorder.statuses().items())
        raise AssertionError(f"not settled within {PATIENCE:.0f} s of convergence:\n{told}")

    # Around each call

    def before(self, worker: Worker, call: Call) -> Waits | Lie | None:
        self.operations += 1
        self.host.io.step()
        told = self._at(BEFORE, call)
        if worker.is_dead or self.is_dead:
            raise Crashed
        if not isinstance(told, Lie) and changes(call):
            self.invariants.before(worker, call)
        if changes(call) and not _only_reads(call):
            self.effects, self.last_effect = self.effects + 1, call
        return told

    def midway(self, worker: Worker, call: Call) -> None:
        del worker
        self._at(MIDWAY, call)

    def after_call(self, worker: Worker, call: Call, answer: Any) -> None:
        self.invariants.after(worker, call, answer)
        if call.part == "dm" and call.name in _ANNOUNCED:
            self.hear(call.args[0])
        self._at(AFTER, call)

    def _at_store(self, when: str, call: Call) -> None:
        self._at(when, call)
        if self.is_dead:
            raise Crashed
        if when is BEFORE:
            self.invariants.store_step(call.args[0])

    def _at(self, when: str, call: Call) -> Waits | Lie | None:
        told: Waits | Lie | None = None
        changing = call.part == "store" or changes(call)
        for trigger in list(self.triggers):
            if when is BEFORE and (changing or not trigger.changing):
                trigger.left -= 1
            if trigger.left <= 0 and trigger.when == when and (changing or not trigger.changing):
                self.triggers.remove(trigger)
                told = trigger.act(call) or told
        return told

    def at_call(self, calls: int, when: str, act: Act, *, changing: bool = True) -> None:
        self.triggers.append(Trigger(calls, when, act, changing=changing))

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


class _Timed:
    """Metrics, of which the times are kept one by one: buckets are too coarse for a percentile."""

    def __init__(self, inner: Metrics, times: dict[str, list[float]]) -> None:
        self._inner = inner
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def healed(self, kind: str, reason: Reason, result: Result, seconds: float, key: Key) -> None:
        if result == "success":
            self._times.setdefault(reason.value, []).append(seconds)
        self._inner.healed(kind, reason, result, seconds, key)


_ANNOUNCED: Final = frozenset({"resume", "remove"})
"""What a worker does and udev tells of at once. What others do is found by the resync, as where an event is lost."""


def _only_reads(call: Call) -> bool:
    """Thin ids are read through a metadata snapshot, which is a message to take and one to give back."""
    return call.name == "message" and str(call.args[1]).endswith("_metadata_snap")

"""Bugs that could have been made, planted one at a time: the simulation has to find each.

`python -m tests.simulation.mutants` tells after how many seeds each was found.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from reconciler.kernel.protocol import Kernel
from reconciler.kernel.steps import disks, pools
from reconciler.kernel.steps.dm_operations import read_ids
from reconciler.kernel.steps.table import STEPS
from reconciler.model.errors import HostError
from reconciler.model.steps import (
    AbortIntent,
    Activate,
    BeginIntent,
    Clear,
    CompleteIntent,
    CreateSnapshot,
    CreateThin,
    DeleteThin,
    GrowFile,
    HostStep,
    Step,
)
from reconciler.planner import making
from reconciler.planner.device_findings import thin_target
from reconciler.planner.facts import PruneVerdict
from reconciler.planner.orphans import PoolOrphans, PruneRules, prune_verdict
from reconciler.planner.pool_missing import plan_missing
from tests.simulation.directories import directories, in_the_same_order
from tests.simulation.scenario import fails

MOST: Final = 1000
"""Seeds that a bug may take to be found."""
NEAR: Final = 40
"""Of them so many around the one that found it when it was last looked for."""
Planting = Callable[[], AbstractContextManager[Any]]


class Without:
    """A part of the kernel some of whose calls are never made."""

    def __init__(self, inner: Any, *calls: str) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return (lambda *_, **__: None) if name in self._calls else getattr(self._inner, name)


def _step(does: Callable[[Kernel, Any], str | None], *kinds: type[HostStep]) -> Planting:
    return lambda: mock.patch.dict(STEPS, {kind: replace(STEPS[kind], act=does) for kind in kinds})


def _planner(where: str, does: Any) -> Planting:
    return lambda: mock.patch(f"reconciler.planner.{where}", does)


def _everywhere(name: str, change: Callable[[Any], Any]) -> Planting:
    """A function of the planner's, in each file that uses it."""

    @contextmanager
    def plant() -> Iterator[None]:
        with ExitStack() as stack:
            for module in [each for path, each in sys.modules.items() if path.startswith("reconciler.planner.")]:
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, change(getattr(module, name))))
            yield

    return plant


def _reordered(where: str, change: Callable[[tuple[Step, ...]], tuple[Step, ...]]) -> Planting:
    """What a planner's function gives, otherwise."""

    @contextmanager
    def plant() -> Iterator[None]:
        module, _, name = f"reconciler.planner.{where}".rpartition(".")
        inner = getattr(sys.modules[module], name)
        with mock.patch(f"{module}.{name}", lambda *given: change(inner(*given))):
            yield

    return plant


def _without_step(*kinds: type[Step]) -> Callable[[tuple[Step, ...]], tuple[Step, ...]]:
    return lambda steps: tuple(step for step in steps if not isinstance(step, kinds))


def _intent_last(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Written down once the message has been sent."""
    if len(steps) < 2 or not isinstance(steps[0], BeginIntent):
        return steps
    return (steps[1], steps[0], *steps[2:])


def _outcome_first(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The id is free before the thin is gone."""
    return tuple(sorted(steps, key=lambda step: not isinstance(step, CompleteIntent)))


def _adopts_what_is_there(kernel: Kernel, step: Any) -> str | None:
    try:
        return pools.POOL_STEPS[type(step)].act(kernel, step)
    except HostError as fault:
        if fault.errno == errno.EEXIST:
            return ""
        raise


def _insists(kernel: Kernel, step: Any) -> str | None:
    said = pools._delete_thin(kernel, step)
    if said == "gone already":
        raise HostError("delete", step.subject, errno.ENODATA)
    return said


def _believes_the_suspension(kernel: Kernel, step: CreateSnapshot) -> None:
    if step.suspend:
        kernel.dm.suspend(step.suspend)
    try:
        pools._message(kernel, step.subject, f"create_snap {step.thin_id} {step.origin_id}")
    finally:
        if step.suspend:
            kernel.dm.resume(step.suspend)


def _never_resumes(kernel: Kernel, step: CreateSnapshot) -> None:
    pools._create_snapshot(replace(kernel, dm=Without(kernel.dm, "resume")), step)


def _removes_deferred() -> AbstractContextManager[Any]:
    def remove(self: Any, name: str) -> None:
        devices = self._host.devices
        devices.remove(devices.get("remove", name), deferred=True)

    return mock.patch("reconciler.kernel.simulated.kernel.SimulatedDm.remove", remove)


def _grows_no_loop(kernel: Kernel, step: GrowFile) -> None:
    disks._grow_file(replace(kernel, disks=Without(kernel.disks, "resize_loop")), step)


@contextmanager
def _releases_anybodys_snapshot() -> Iterator[None]:
    def reads(*given: Any, **more: Any) -> Any:
        return read_ids(*given, **more | {"ours": True})

    with (
        mock.patch("reconciler.kernel.worker.scan.read_ids", reads),
        mock.patch("reconciler.kernel.steps.pools.read_ids", reads),
    ):
        yield


@contextmanager
def _reads_anybodys_ids() -> Iterator[None]:
    adopt = making._adopt
    with (
        mock.patch("reconciler.controller.observer.PoolObserver._is_somebody_elses", return_value=False),
        mock.patch(
            "reconciler.planner.making._adopt", lambda facts, *rest: adopt(replace(facts, pool_record=None), *rest)
        ),
    ):
        yield


def _as_if_unknown(where: str) -> Planting:
    """A pool that is missing is taken for one that never was."""

    @contextmanager
    def plant() -> Iterator[None]:
        with mock.patch(where, lambda facts, record: plan_missing(replace(facts, known=None), record)):
            yield

    return plant


@contextmanager
def _goes_by_the_path() -> Iterator[None]:
    """What a path leads to is taken for what the pool lay on."""
    with ExitStack() as stack:
        for module in ("planner.pool_identity", "kernel.steps.pools"):
            for name in ("is_other", "start_is_other"):
                stack.enter_context(mock.patch(f"reconciler.{module}.{name}", return_value=False))
        yield


def _prunes_at_once(gone_since: float | None, orphans: PoolOrphans, *, now: float, rules: PruneRules) -> PruneVerdict:
    long_ago = None if gone_since is None else now - 1e6
    return prune_verdict(long_ago, replace(orphans, settled_for=1e6), now=now, rules=rules)


def _published(inner: Callable[..., tuple[Step, ...]], facts: Any, record: Any, intent: Any, origin: Any) -> Any:
    steps = inner(facts, record, intent, origin)
    if any(isinstance(step, Activate) for step in steps):
        return steps
    return (*steps, Activate(intent.dm_name, intent.uuid, thin_target(facts, intent.thin_id, intent.size)))


def _finishes_anything(facts: Any, intent: Any, record: Any, ids: Mapping[int, Any]) -> bool:
    del facts, record
    return intent.thin_id in ids


BUGS: Final[dict[str, Planting]] = {
    "the origin of a snapshot is not resumed": _step(_never_resumes, CreateSnapshot),
    "the origin of a snapshot is not suspended": lambda: mock.patch(
        "reconciler.planner.making._to_suspend", return_value=""
    ),
    "a suspension that did not happen is believed": _step(_believes_the_suspension, CreateSnapshot),
    "devices are removed deferred": _removes_deferred,
    "ENODATA on a deletion is an error": _step(_insists, DeleteThin),
    "the intent of a creation comes after its message": _reordered("making._steps", _intent_last),
    "no intent of a creation is written": _reordered("making._steps", _without_step(BeginIntent)),
    "the outcome of a deletion comes before its message": _reordered("device_inactive.forward", _outcome_first),
    "a thin that exists already is adopted": _step(_adopts_what_is_there, CreateThin, CreateSnapshot),
    "no suspension has a grace": _planner("facts.Grace.left", lambda *_: 0.0),
    "a suspension is never ended": _everywhere("resume_stalled", lambda _: lambda *_: ()),
    "half of a creation is taken for all of it": _planner("making._is_complete", _finishes_anything),
    "an undo forgets the thin": _reordered("making._undo", _without_step(DeleteThin)),
    "an undo deletes whatever has the id": _planner(
        "making._undo",
        lambda facts, intent, _: (
            DeleteThin(facts.key.pool, intent.thin_id, facts.pool.status.transaction_id),
            AbortIntent(facts.key, facts.pool.status.transaction_id),
        ),
    ),
    "a pool that is missing is made anew": _as_if_unknown("reconciler.planner.pool.plan_missing"),
    "a vanished record is a request to delete": lambda: mock.patch(
        "reconciler.controller.fact_gatherer.prune_verdict", return_value=PruneVerdict.DELETE
    ),
    "vanished records are pruned at once": lambda: mock.patch(
        "reconciler.controller.fact_gatherer.prune_verdict", _prunes_at_once
    ),
    "any number of vanished records is pruned": lambda: mock.patch(
        "reconciler.planner.orphans._is_mass", return_value=False
    ),
    "whatever carries the name is ours": _everywhere("is_foreign", lambda _: lambda _: False),
    "a pool whose metadata is full does not grow": _planner("ownership._metadata_is_full", lambda _: False),
    "a wrong table is left": _planner("device_active._table", lambda *_: None),
    "a read-only flag is left": _planner("device_active._read_only", lambda *_: None),
    "a filesystem does not follow its device": _planner("device_active._grow", lambda *_: ()),
    "a loop does not follow its file": _step(_grows_no_loop, GrowFile),
    "a private device of a crash is not looked for": _everywhere("plan_private", lambda _: lambda _: None),
    "a table that waits is swapped in by a resume": _everywhere(
        "resume_stalled", lambda inner: lambda *given: _without_step(Clear)(inner(*given))
    ),
    "a pool comes up on whatever its paths lead to": _goes_by_the_path,
    "the ids of somebody else's pool are read": _reads_anybodys_ids,
    "anybody's metadata snapshot is released": _releases_anybodys_snapshot,
    "what failed is tried again with each event": lambda: mock.patch(
        "reconciler.controller.failed_attempts.FailedAttempts.is_too_early", return_value=False
    ),
    "a device that is only to be there is published": _everywhere(
        "_steps", lambda inner: lambda *given: _published(inner, *given)
    ),
}

FOUND_BY: Final = {
    "a suspension that did not happen is believed": 133,
    "devices are removed deferred": 96,
    "ENODATA on a deletion is an error": 330,
    "a thin that exists already is adopted": 794,
    "half of a creation is taken for all of it": 74,
    "an undo deletes whatever has the id": 460,
    "any number of vanished records is pruned": 58,
    "a pool whose metadata is full does not grow": 15,
    "a read-only flag is left": 37,
    "a filesystem does not follow its device": 138,
    "a loop does not follow its file": 15,
    "a private device of a crash is not looked for": 94,
    "a table that waits is swapped in by a resume": 11,
    "a pool comes up on whatever its paths lead to": 34,
    "the ids of somebody else's pool are read": 695,
    "anybody's metadata snapshot is released": 71,
    "what failed is tried again with each event": 64,
}
"""Seeds that found them, for those that are not found within the first few."""


def found_by(name: str, seeds: Iterable[int]) -> int | None:
    """The first of these seeds that finds the bug, and ends well without it; None: none of them does."""
    logging.disable(logging.CRITICAL)
    with directories() as new:
        for seed in seeds:
            with BUGS[name]():
                found = fails(seed, None, new) is not None
            if found and fails(seed, None, new) is None:
                return seed
    return None


def found_soon(name: str) -> int | None:
    """Begun where it was found before; further on if the simulation tells other scenarios by now."""
    start = FOUND_BY.get(name, 0)
    return found_by(name, itertools.chain(range(start, start + NEAR), range(MOST)))


def found_from_the_first(name: str) -> int | None:
    return found_by(name, range(MOST))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="these alone, by a part of what they are called")
    parser.add_argument("--soon", action="store_true", help="begin each with the seed that found it before")
    given = parser.parse_args()
    in_the_same_order("tests.simulation.mutants")
    names = [name for name in BUGS if not given.names or any(part in name for part in given.names)]
    begun, missed = time.monotonic(), 0
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        finders = pool.map(found_soon if given.soon else found_from_the_first, names)
        for name, seed in zip(names, finders, strict=True):
            missed += seed is None
            print(f"{'NOT FOUND' if seed is None else f'by seed {seed:4}'}  {name}", flush=True)
    print(f"{len(names) - missed} of {len(names)} bugs found in {time.monotonic() - begun:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

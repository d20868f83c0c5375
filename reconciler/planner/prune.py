"""Whether a device whose record is gone may be pruned. A vanished record is not a request to delete data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.model.records import Prune, ThinPool
from reconciler.planner.facts import PruneVerdict

WINDOW = 600.0
"""Seconds within which many vanished records count as vanished together."""


@dataclass(frozen=True, slots=True)
class PruneRules:
    delay: float = 60.0
    """Seconds that a record must have been gone, and the directory unchanged."""
    allow_mass: bool = False
    """The operator has said that they mean it."""


def prune_verdict(  # noqa: PLR0913  # a case in itself, all by name
    gone_since: float | None,
    *,
    pool: ThinPool | None,
    all_gone: Sequence[float],
    recorded: int,
    settled_for: float,
    now: float,
    rules: PruneRules,
) -> PruneVerdict:
    """What becomes of one orphan. Times are wall-clock seconds; `all_gone` those of all orphans of the pool."""
    if pool is None or pool.spec.prune is Prune.RETAIN:
        return PruneVerdict.RETAIN
    if not rules.allow_mass and _is_mass(all_gone, recorded):
        return PruneVerdict.HELD_BACK
    if gone_since is None or now - gone_since < rules.delay or settled_for < rules.delay:
        return PruneVerdict.WAIT
    return PruneVerdict.DEACTIVATE if pool.spec.prune is Prune.DEACTIVATE else PruneVerdict.DELETE


def _is_mass(all_gone: Sequence[float], recorded: int) -> bool:
    """More than half of all records vanished within the window: never a single one, unless it was the only one."""
    if all_gone and recorded == 0:
        return True  # whenever they vanished
    times = sorted(all_gone)
    together = max((sum(1 for time in times if start <= time <= start + WINDOW) for start in times), default=0)
    return together * 2 > recorded + len(all_gone)

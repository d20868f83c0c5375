"""Words and colours for what the metrics tell as labels: the same on every panel, and taken from the model itself."""

from __future__ import annotations

from typing import Final

from reconciler.model.conditions import DRIFT, FINAL, Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from tools.dashboard.panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, Words

_LEFT_ALONE: Final = {Reason.PAUSED, Reason.ORPHANED}
_NEEDS_SOMEBODY: Final = {*FINAL, Reason.POOL_UNHEALTHY, Reason.KERNEL_ERROR, Reason.STUCK, Reason.POOL_LOW}


def _color(reason: Reason) -> str:
    if reason is Reason.CONVERGED:
        return GREEN
    if reason in _LEFT_ALONE:
        return BLUE
    if reason in _NEEDS_SOMEBODY:
        return RED
    return YELLOW if reason in DRIFT else ORANGE


REASONS: Final[Words] = {reason.value: (reason.value, _color(reason)) for reason in Reason}
"""Yellow: it is being healed. Orange: it waits. Red: somebody has to look. Blue: left alone on purpose."""

LIVE: Final[Words] = {
    LiveState.ACTIVE.value: ("Active", GREEN),
    LiveState.INACTIVE.value: ("Inactive", GREY),
    LiveState.SUSPENDED.value: ("Suspended", RED),
    LiveState.ABSENT.value: ("Absent", GREY),
    LiveState.UNKNOWN.value: ("Unknown", ORANGE),
}

MODES: Final = tuple(PoolMode)
MODE_NUMBERS: Final[Words] = {
    str(number): (mode.value, GREEN if mode is PoolMode.RW else RED) for number, mode in enumerate(MODES)
}
MODE_WORDS: Final[Words] = {text: (text, color) for text, color in MODE_NUMBERS.values()}

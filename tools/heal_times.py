"""How long it took from the look that found a drift to the look that found it healed, for each kind: as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

HEAD: Final = "  times     median       99 %    longest  found to healed, with what kept it from healing"


def table(times: Mapping[str, Sequence[float]]) -> list[str]:
    """The most frequent first. Seconds."""
    kinds = sorted(times, key=lambda kind: (-len(times[kind]), kind))
    return [HEAD, *(_line(kind, times[kind]) for kind in kinds), _line("all of them", _all(times.values()))]


def _all(times: Iterable[Sequence[float]]) -> list[float]:
    return [seconds for each in times for seconds in each]


def _line(kind: str, seconds: Sequence[float]) -> str:
    if not seconds:
        return f"{0:7}  {kind}"
    figures = (percentile(seconds, 50), percentile(seconds, 99), max(seconds))
    return f"{len(seconds):7}" + "".join(f"{figure:9.2f} s" for figure in figures) + f"  {kind}"


def percentile(seconds: Sequence[float], share: float) -> float:
    """The least that no less than this share of them (in hundredths) do not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]

"""What was done and how long it took, in a form that can be quoted."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from chaos.daemon import Item
from chaos.environment import Environment
from tools.heal_times import table

_HEALED: Final = re.compile(r" INFO +healed\b.*? reason=(\w+)\b.*? seconds=([\d.]+)$", re.MULTILINE)


def report(environment: Environment, seed: int, minutes: float, took: float) -> str:
    scenario, daemon = environment.scenario, environment.daemon
    healed = [event for event in daemon.events() if event["type"] == "Healed"]
    edits = sum(number for kind, number in scenario.done.items() if kind.startswith("edit: "))
    lines = [
        f"seed {seed}, {minutes:g} minutes of adversary, {scenario.seconds:.0f} s in all",
        f"done          {scenario.done.total()} ({edits} edits), and {scenario.refused.total()} refused by the host",
        f"daemon        started {daemon.starts} times; none of its processes grew by more than {daemon.grown_most().growth} KiB",
        f"              {daemon.grown_most()}",
        f"longest end   {daemon.longest_end:.1f} s after SIGTERM or SIGKILL",
        f"pools         repaired {environment.repairs} times by the commands that their status printed",
        f"heals         {sum(event['count'] for event in healed)}",
        f"longest heal  {_longest(healed)}",
        f"convergence          all as declared {took:.1f} s after the adversary stopped",
        "",
        *_counts("done, and refused", scenario.done, scenario.refused),
        "",
        *table(heal_times(daemon.told())),
    ]
    return "\n".join(lines)


def _longest(healed: list[Item]) -> str:
    if not healed:
        return "none"
    event = max(healed, key=lambda event: float(event["seconds"] or 0))
    return f"{event['seconds']:.1f} s, what kept it from healing included: {event['object']['name']}, {event['reason']}"


def heal_times(log: str) -> dict[str, list[float]]:
    """Each by itself, as the daemon has logged it: in events, those that are alike are counted."""
    times: dict[str, list[float]] = {}
    for reason, seconds in _HEALED.findall(log):
        times.setdefault(reason, []).append(float(seconds))
    return times


def _counts(title: str, *counters: Counter[str]) -> list[str]:
    kinds = sorted({kind for counter in counters for kind in counter}, key=lambda kind: (-counters[0][kind], kind))
    lines = ["  ".join([*(f"{counter[kind]:6}" for counter in counters), kind]) for kind in kinds]
    return [f"{title}:", *lines]

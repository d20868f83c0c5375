"""The instants at which a process can die: before and after each step of the store and each call that changes something.

An instant is named by the call's text and by how many of the same text came before it, so that it means the same in
each run.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.kernel.protocol import Kernel
from reconciler.kernel.simulated.faults import Call, Calls, Hooked
from reconciler.model.steps import StoreStep
from reconciler.store.store import Store
from tests.simulation.calls import changes

BEFORE, MIDWAY, AFTER = "before", "midway", "after"
PROGRAMS = frozenset({"tools.mkfs", "tools.grow_filesystem"})
"""What takes its time, and writes more than once: it has a midway."""


@dataclass(frozen=True, slots=True)
class Instant:
    when: str
    call: str
    """`dm.message create_thin 2`, `store.BeginIntent`, `tools.mkfs` ..."""
    number: int = 0
    """How many calls of the same text came before."""

    def __str__(self) -> str:
        return f"{self.when} {self.call}" + (f" ({self.number + 1})" if self.number else "")


def points_of(instants: Sequence[Instant]) -> list[Instant]:
    """Those that differ: between two calls nothing changes, so before the one is the same as after the other."""
    return [instant for number, instant in enumerate(instants) if number == 0 or instant.when != BEFORE]


def text_of(call: Call) -> str:
    words = [f"{call.part}.{call.name}"]
    if call.name == "message":
        words.append(str(call.args[1]))
    return " ".join(words)


class Instants:
    """Tells `at` of each instant as it comes."""

    def __init__(self, at: Callable[[Instant], None], midway_of: Instant | None = None) -> None:
        self._at = at
        self._midway_of = midway_of
        self._seen: Counter[str] = Counter()
        self.calls = Calls(before=self._before, after=self._after)

    def kernel(self, host: Kernel) -> Kernel:
        """The same host, watched."""
        return Kernel(
            dm=Hooked("dm", host.dm, self.calls),
            disks=Hooked("disks", host.disks, self.calls),
            tools=Hooked("tools", host.tools, self.calls),
            udev=Hooked("udev", host.udev, self.calls),
        )

    def watch_store(self, store: Store) -> None:
        inner = store.apply

        def apply(step: StoreStep) -> None:
            call = Call("store", type(step).__name__, (step,))
            self._before(call)
            inner(step)
            self._after(call)

        store.apply = apply  # type: ignore[method-assign]

    def _before(self, call: Call) -> None:
        if not _counts(call):
            return
        text = text_of(call)
        number = self._seen[text]
        self._seen[text] += 1
        self._at(Instant(BEFORE, text, number))
        midway = Instant(MIDWAY, text, number)
        if midway == self._midway_of:
            threading.Thread(target=self._once_written, args=(call.args[0], midway), daemon=True).start()
        elif self._midway_of is None and text in PROGRAMS:
            self._at(midway)

    def _after(self, call: Call) -> None:
        if _counts(call):
            text = text_of(call)
            self._at(Instant(AFTER, text, self._seen[text] - 1))

    def _once_written(self, node: str, midway: Instant) -> None:
        """As soon as a program has written something to the node: it has more to write."""
        number = Path(node).stat().st_rdev
        stat = Path("/sys/dev/block", f"{os.major(number)}:{os.minor(number)}", "stat")
        before = _writes(stat)
        while _writes(stat) == before:
            time.sleep(0.0005)
        self._at(midway)


def _writes(stat: Path) -> str:
    """Of Documentation/block/stat.rst: how many writes have ended."""
    return stat.read_text(encoding="ascii").split()[4]


def _counts(call: Call) -> bool:
    return call.part == "store" or changes(call)

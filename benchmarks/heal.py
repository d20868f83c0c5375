"""How soon a device that was removed behind the daemon's back is active again, against a bare activation with udev."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from benchmarks.host import await_true, daemon, is_ready, prepare, seconds
from reconciler.kernel.host import host_kernel
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.steps.dm_operations import activate

TIMES = 20
FACTOR, ALLOWANCE = 1.3, 0.25
"""A heal may take so many bare activations, and so many seconds more."""
NAME = "tank-a"


def is_active(kernel: Kernel) -> bool:
    info = kernel.dm.info(NAME)
    return info is not None and info.live_table and not info.suspended and Path(f"/dev/mapper/{NAME}").exists()


def bare_activations(kernel: Kernel) -> list[float]:
    """Create, load, resume and udev's rules, with nobody else at work."""
    found = kernel.dm.info(NAME)
    assert found is not None
    (table,) = kernel.dm.table(NAME)
    times = []
    for _ in range(TIMES):
        kernel.dm.remove(NAME)
        times.append(seconds(lambda: activate(kernel, NAME, found.uuid, table, read_only=False, hidden=False)))
    return times


def heals(kernel: Kernel) -> list[float]:
    """From the return of the removal to an active device with its node."""
    times = []
    for _ in range(TIMES):
        kernel.dm.remove(NAME)
        times.append(seconds(lambda: await_true(lambda: is_active(kernel), 60)))
        time.sleep(0.2)  # the next removal is a new event, not part of this one
    return times


def main() -> None:
    manifests = prepare("tank", ["a"])
    kernel = host_kernel()
    with daemon(manifests):
        await_true(is_ready, 120)
        healed = statistics.median(heals(kernel))
    bare = statistics.median(bare_activations(kernel))
    limit = FACTOR * bare + ALLOWANCE
    print(f"bare activation {bare * 1000:.0f} ms, healed in {healed * 1000:.0f} ms, limit {limit * 1000:.0f} ms")
    if healed > limit:
        sys.exit("too slow: heal")


if __name__ == "__main__":
    main()

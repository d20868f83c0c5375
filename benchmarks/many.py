"""A thousand devices: one look against dmsetup's own, what an idle daemon costs, and a scrape. For a kernel without udev."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.host import (
    await_true,
    cpu_seconds,
    daemon,
    is_ready,
    median,
    passes,
    prepare,
    run,
    scrape,
    seconds,
    workers,
)
from reconciler.kernel.host import host_kernel
from reconciler.kernel.worker.scan import PoolScanner
from reconciler.model.live import ScanRequest, ScanScope

DEVICES = 1000
IDLE_SECONDS = 30.0
SCRAPES = 100


def look_with_dmsetup() -> None:
    run("dmsetup", "info", "-c")
    run("dmsetup", "table")
    run("dmsetup", "status")


def look_with_the_library(names: list[str]) -> None:
    """LIST, INFO, TABLE, STATUS of each: what the three programs ask."""
    dm = host_kernel().dm
    dm.list_all()
    for name in names:
        dm.info(name)
        dm.table(name)
        dm.status(name)


def scrape_cost(pids: list[int], idle_share: float) -> float:
    """CPU seconds of one scrape, without what the daemon uses meanwhile for itself."""
    before, begun = cpu_seconds(*pids), time.monotonic()
    for _ in range(SCRAPES):
        scrape()
    return (cpu_seconds(*pids) - before - idle_share * (time.monotonic() - begun)) / SCRAPES


def main() -> None:
    names = [f"d{number:04}" for number in range(DEVICES)]
    manifests = prepare("many", names)
    with daemon(manifests) as process:
        begun = time.monotonic()
        await_true(is_ready, 900, pause=0.5)
        print(f"making {DEVICES} devices, each with its own transaction: {time.monotonic() - begun:.1f} s", flush=True)
        everybody = [process.pid, *workers(process.pid)]
        passed, before, begun = passes(), cpu_seconds(*everybody), time.monotonic()
        time.sleep(IDLE_SECONDS)  # what is measured is that nothing happens
        used, lasted = cpu_seconds(*everybody) - before, time.monotonic() - begun
        one_pass = used / (passes() - passed)
        scraped = scrape_cost(everybody, used / lasted)
    print(f"an idle daemon with {DEVICES} records and its worker use {used / lasted:.1%} of a core", flush=True)
    print(f"CPU time: an idle pass {one_pass * 1000:.0f} ms, a scrape {scraped * 1000:.1f} ms", flush=True)
    dm_names = [f"many-{name}" for name in names]
    theirs = median(look_with_dmsetup, 5)
    mine = median(lambda: look_with_the_library(dm_names), 5)
    print(f"one look: dmsetup {theirs * 1000:.0f} ms, the library {mine * 1000:.0f} ms, ratio {mine / theirs:.2f}")
    observer = PoolScanner(host_kernel(), ScanScope("many", None, None, frozenset(dm_names)), Path("/run"))
    first = seconds(lambda: observer.look(ScanRequest()))
    idle = median(lambda: observer.look(ScanRequest()), 20)
    print(f"the reconciler's first look {first * 1000:.0f} ms, an idle one {idle * 1000:.0f} ms")
    limits = (
        ("look", mine > theirs),
        # Of a core it is a few times more here than on a host, where a system call costs a fiftieth.
        ("idle", one_pass > theirs / 3),
        ("scrape", scraped > one_pass / 10),
    )
    failed = [text for text, bad in limits if bad]
    if failed:
        sys.exit(f"too slow: {', '.join(failed)}")


if __name__ == "__main__":
    main()

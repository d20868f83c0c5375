"""A thousand devices: one look against dmsetup's own, and what an idle daemon costs. For a kernel without udev."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from host import ROOT, await_true, children, cpu_seconds, daemon, manifest, median, run, seconds

from reconciler.kernel.host import host_kernel
from reconciler.kernel.observe import Observer
from reconciler.model.live import LookRequest, Watched

DEVICES = 1000
IDLE_SECONDS = 30.0
URL = "http://127.0.0.1:9810/readyz"


def is_ready() -> bool:
    try:
        with urllib.request.urlopen(URL, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


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


def main() -> None:
    ROOT.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=1G", "bench", str(ROOT))
    manifests = ROOT / "manifests"
    manifests.mkdir()
    names = [f"d{number:04}" for number in range(DEVICES)]
    (manifests / "all.yaml").write_text(manifest("many", names), encoding="utf-8")
    with daemon(manifests) as process:
        begun = time.monotonic()
        await_true(is_ready, 600)
        print(f"making {DEVICES} devices, each with its own transaction: {time.monotonic() - begun:.1f} s", flush=True)
        ours = [process.pid, *children(process.pid)]
        before, begun = cpu_seconds(*ours), time.monotonic()
        time.sleep(IDLE_SECONDS)  # what is measured is that nothing happens
        share = (cpu_seconds(*ours) - before) / (time.monotonic() - begun)
    print(f"an idle daemon with {DEVICES} records uses {share:.1%} of a core", flush=True)
    dm_names = [f"many-{name}" for name in names]
    theirs = median(look_with_dmsetup, 5)
    mine = median(lambda: look_with_the_library(dm_names), 5)
    print(f"one look: dmsetup {theirs * 1000:.0f} ms, the library {mine * 1000:.0f} ms, ratio {mine / theirs:.2f}")
    observer = Observer(host_kernel(), Watched("many", None, None, frozenset(dm_names)), Path("/run"))
    first = seconds(lambda: observer.look(LookRequest()))
    idle = median(lambda: observer.look(LookRequest()), 20)
    print(f"the reconciler's first look {first * 1000:.0f} ms, an idle one {idle * 1000:.0f} ms")
    failed = [text for text, bad in (("look", mine > theirs), ("idle", share >= 0.05)) if bad]
    if failed:
        sys.exit(f"too slow: {', '.join(failed)}")


main()

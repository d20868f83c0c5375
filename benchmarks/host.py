"""What the benchmarks share: a pool with many thins on tmpfs, made without udev, and time that was measured."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path("/run/bench")
PROGRAM = str(Path(sys.executable).parent / "dm-reconciler")
URL = "http://127.0.0.1:9810/readyz"
METRICS = "http://127.0.0.1:9810/metrics"


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median(work: Callable[[], object], times: int) -> float:
    return statistics.median(seconds(work) for _ in range(times))


def cpu_seconds(*pids: int) -> float:
    """User and system time of these processes, of all their threads."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / ticks


def workers(pid: int) -> list[int]:
    """Each is the child of its pool's thread."""
    lists = (file.read_text(encoding="ascii") for file in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for listed in lists for child in listed.split()]


def manifest(pool: str, devices: list[str], size: str = "4MiB") -> str:
    """A file-backed pool with that many small devices."""
    places = {
        "data": {"file": str(ROOT / f"{pool}.data"), "size": "8GiB"},
        "metadata": {"file": str(ROOT / f"{pool}.meta"), "size": "64MiB"},
    }
    documents = [_document("ThinPool", pool, places)]
    documents += [_document("ThinDevice", name, {"pool": pool, "size": size}) for name in devices]
    return yaml.safe_dump_all(documents)


def _document(kind: str, name: str, spec: Mapping[str, object]) -> dict[str, object]:
    return {"apiVersion": "dm-reconciler/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def await_true(ask: Callable[[], object], within: float, pause: float = 0.005) -> None:
    """Asks now and then: there is one CPU, and what is waited for needs it."""
    end = time.monotonic() + within
    while not ask():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {within:.0f} s")
        time.sleep(pause)


def prepare(pool: str, devices: list[str]) -> Path:
    """A tmpfs, and on it a directory of manifests with such a pool."""
    ROOT.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=1G", "bench", str(ROOT))
    manifests = ROOT / "manifests"
    manifests.mkdir()
    (manifests / "all.yaml").write_text(manifest(pool, devices), encoding="utf-8")
    return manifests


def is_ready() -> bool:
    """Whether the daemon's first full pass is done."""
    try:
        with urllib.request.urlopen(URL, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def scrape() -> str:
    with urllib.request.urlopen(METRICS, timeout=10) as answer:
        return str(answer.read().decode())


def passes() -> int:
    """Over all records, since the daemon's start."""
    name = 'dm_reconciler_resync_duration_seconds_count{kind="ThinPool"} '
    return int(float(scrape().partition(name)[2].split("\n")[0]))


@contextmanager
def daemon(manifests: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon with these manifests, until the block ends."""
    log = ROOT / "log"
    command = [PROGRAM, "run", "--manifests", str(manifests), "--state-dir", str(ROOT / "state"), *arguments]
    with log.open("ab") as opened, subprocess.Popen(command, stdout=opened, stderr=opened) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)

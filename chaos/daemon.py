"""The daemon as its operator has it: a process, a directory of manifests, HTTP, and its commands beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos.host import NotSo, Said, attempt

PORT: Final = 9810
WARM: Final = 20.0
"""Seconds after which a process has all that it needs, counted from when the daemon is ready."""
WARM_LOOKS: Final = 20
ENDING: Final = 60.0
"""Seconds from a signal to its end, whatever hangs: five, and more where the sandbox has next to no processor."""
Item = dict[str, Any]


@dataclass(slots=True)
class Memory:
    """Of one process."""

    what: str
    began: float
    steps: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since it was seen first and KiB, each time that it had more than ever: from when it was warm."""

    def note(self, now: float, size: int) -> None:
        age = now - self.began
        if age > WARM and size > (self.steps[-1][1] if self.steps else 0):
            self.steps.append((age, size))

    @property
    def growth(self) -> int:
        return self.steps[-1][1] - self.steps[0][1] if self.steps else 0

    def __str__(self) -> str:
        return f"{self.what}: " + ", ".join(f"{size} KiB at {age:.0f} s" for age, size in self.steps)


@dataclass(slots=True)
class Daemon:
    manifests: Path
    state: Path
    log: Path
    starts: int = 0
    longest_end: float = 0.0
    """Seconds from a signal to its end."""
    memory: dict[int, Memory] = field(default_factory=dict)
    """Of every process there was, the workers' too."""
    _process: subprocess.Popen[bytes] | None = None

    # The process

    def start(self) -> None:
        if self._process is not None:
            return
        words = [sys.executable, "-m", "reconciler", "run", "--manifests", str(self.manifests)]
        words += ["--state-dir", str(self.state), "--listen", f"127.0.0.1:{PORT}"]
        words += ["--suspend-grace", "2s", "--prune-delay", "4s"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.starts += 1

    def end(self, number: int) -> int | None:
        """Its exit status; None where there was none to end. Raises NotSo where it does not end."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        sent = time.monotonic()
        try:
            code = process.wait(ENDING)
        except subprocess.TimeoutExpired:
            raise NotSo(f"the daemon has not ended within {ENDING:g} s of signal {number}") from None
        self.longest_end = max(self.longest_end, time.monotonic() - sent)
        return code

    def signal(self, number: int) -> bool:
        if self._process is not None:
            self._process.send_signal(number)
        return self._process is not None

    def workers(self) -> list[int]:
        """Their process ids, in the order in which they were started."""
        if self._process is None:
            return []
        found: set[int] = set()
        for task in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            with suppress(OSError):  # a thread that has ended meanwhile
                found |= {int(pid) for pid in task.read_text(encoding="ascii").split()}
        return sorted(pid for pid in found if _is_worker(pid))

    def watch(self) -> None:
        """That it lives, and what memory it has. Raises NotSo where it ended by itself."""
        if self._process is None:
            return
        if (code := self._process.poll()) is not None:
            raise NotSo(f"the daemon ended by itself, with {code}")
        if self.looks() < WARM_LOOKS:
            return
        now = time.monotonic()
        for pid, what in ((self._process.pid, "daemon"), *((pid, "worker") for pid in self.workers())):
            self.memory.setdefault(pid, Memory(what, now)).note(now, _resident(pid))

    def grown_most(self) -> Memory:
        """The process that has taken most since it was warm."""
        return max(self.memory.values(), key=lambda memory: memory.growth, default=Memory("none", 0))

    # What it knows

    def ask(self, path: str) -> Any:
        """JSON, or text; None where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=5) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None
        return json.loads(text) if path.startswith("/api") else text

    def items(self, kind: str) -> dict[str, Item]:
        """`pools` or `devices`, by name."""
        answer = self.ask(f"/api/v1/{kind}") or {"items": []}
        return {item["metadata"]["name"]: item for item in answer["items"]}

    def looks(self) -> float:
        """How many times it has gone over a pool since its start."""
        for line in (self.ask("/metrics") or "").splitlines():
            if line.startswith("dm_reconciler_resync_duration_seconds_count"):
                return float(line.split()[-1])
        return 0.0

    def command(self, *words: str, within: float = 60.0) -> Said:
        """One of the program's own, beside it."""
        return attempt(sys.executable, "-m", "reconciler", *words, "--state-dir", self.state, within=within)

    def events(self) -> list[Item]:
        said = self.command("events", "--limit", "10000", "-o", "json")
        items: list[Item] = json.loads(said.text)["items"]
        return items

    def told(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"reconciler.kernel.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _resident(pid: int) -> int:
    """KiB; 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def kill(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True

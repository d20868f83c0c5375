"""The daemon as its operator has it: a process, a directory of manifests, and HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

PORT: Final = 9810
PATIENCE: Final = 90.0
"""Seconds within which everything here is healed, or is not going to be: many times what it takes on an idle machine."""
SEPARATOR: Final = "\n---\n"
Answer = TypeVar("Answer")
Item = dict[str, Any]


class NotSo(Exception):  # noqa: N818 - what was expected is not so
    """Something that was to come true did not."""


class Daemon:
    def __init__(self, manifests: Path, folder: Path, grace: str) -> None:
        self.manifests = manifests
        self.log = folder / "daemon.log"
        arguments = f"run --manifests {manifests} --state-dir {folder / 'state'} --suspend-grace {grace}"
        self.command = f"dm-reconciler {arguments}"
        self._words = [sys.executable, "-m", "reconciler", *arguments.split()]
        self._process: subprocess.Popen[bytes] | None = None

    # The process

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)

    def kill(self) -> None:
        """As a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        """As systemd does; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int | None:
        if self._process is None:
            return None
        self._process.send_signal(number)
        status = self._process.wait(PATIENCE)
        self._process = None
        return status

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def tail(self, lines: int = 25) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-lines:]) if self.log.exists() else ""

    # What it knows

    def items(self, kind: str) -> list[Item]:
        """`pools`, `devices` or `events`. Nothing while it does not listen yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/v1/{kind}", timeout=10) as answer:
                items: list[Item] = json.load(answer)["items"]
        except (urllib.error.URLError, ConnectionError):
            return []
        return items

    def everything(self) -> list[Item]:
        return [*self.items("pools"), *self.items("devices")]

    def status(self, name: str) -> Item:
        """Of a pool or a device; empty while it was not looked at."""
        found = [item["status"] for item in self.everything() if item["metadata"]["name"] == name]
        return (found[0] or {}) if found else {}

    def events(self, since: float, name: str = "", kind: str = "") -> list[Item]:
        """Those of that object and type (`Found`, `Healed`), at or after a wall-clock time in seconds."""
        return [
            event
            for event in self.items("events")
            if _seconds(event["time"]) >= since
            and name in ("", event["object"]["name"])
            and kind in ("", event["type"])
        ]

    def all_ready(self, count: int) -> bool:
        """Whether it has looked at so many records since its start, and each is as desired."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=10).close()
        except (urllib.error.URLError, ConnectionError):
            return False
        items = self.everything()
        return len(items) == count and all((item["status"] or {}).get("ready") for item in items)

    # What it is told

    def count(self) -> int:
        """Of records in the manifests."""
        texts = (file.read_text(encoding="utf-8") for file in self.manifests.glob("*.yaml"))
        return sum(len(list(yaml.safe_load_all(text))) for text in texts)

    def edit(self, name: str, old: str, new: str) -> Path:
        """Replace what stands once in the document of that name; the file. Written elsewhere, then renamed."""
        for file in sorted(self.manifests.glob("*.yaml")):
            documents = file.read_text(encoding="utf-8").split(SEPARATOR)
            for number, document in enumerate(documents):
                if f"  name: {name}\n" in document and document.count(old) == 1:
                    documents[number] = document.replace(old, new)
                    _write(file, SEPARATOR.join(documents))
                    return file
        raise NotSo(f"no manifest has {old!r} in a record {name}")

    def add(self, file: Path, document: str) -> None:
        """One more document at a file's end."""
        _write(file, file.read_text(encoding="utf-8") + SEPARATOR + document)


def until(ask: Callable[[], Answer], what: str, within: float = PATIENCE) -> Answer:
    """The first true answer. Raises NotSo."""
    end = time.monotonic() + within
    while not (answer := ask()):
        if time.monotonic() > end:
            raise NotSo(f"not so within {within:.0f} s: {what}")
        time.sleep(0.05)
    return answer


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _write(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, encoding="utf-8")
    new.rename(file)

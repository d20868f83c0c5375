"""The daemon on the real kernel, as an operator has it: a directory of manifests, a process, commands and HTTP.

An Environment is made once for a module, as a daemon takes seconds to start inside the sandbox. Every name in it carries its
prefix, and nothing else on the host is touched.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.programs import HostTools
from reconciler.model.errors import HostError
from reconciler.model.live import DeviceInfo, ThinEntry
from tests.testing.real_kernel import Run, remove_devices, run

PATIENCE = 60.0
"""Seconds to wait for what should take less than a few: the sandbox is slow, and the machine may be busy."""
Record = dict[str, Any]


class Environment:
    """One daemon, its manifests and its state."""

    def __init__(self, root: Path, prefix: str) -> None:
        self.root = root
        self.prefix = prefix
        self.manifests = root / "manifests"
        self.state = root / "state"
        self.manifests.mkdir(mode=0o755)
        self.dm = LibDm()
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log = root / "log"
        self.arguments: tuple[str, ...] = ()

    # Records

    def pool(self, name: str = "tank", **spec: Any) -> Record:
        """A file-backed pool in the environment's own folder. Keyword arguments are fields of its spec."""
        full = self.prefix + name
        places = {
            "data": {"file": str(self.root / f"{name}.data"), "size": "256MiB"},
            "metadata": {"file": str(self.root / f"{name}.meta"), "size": "4MiB"},
        }
        return _document("ThinPool", full, {**places, **spec})

    def device(self, name: str, pool: str = "tank", **spec: Any) -> Record:
        """16 MiB, Active, where the keyword arguments say nothing else."""
        size = {} if {"snapshotOf", "size"} & spec.keys() else {"size": "16MiB"}
        return _document("ThinDevice", name, {"pool": self.prefix + pool, **size, **spec})

    def declare(self, *records: Record, file: str = "all.yaml") -> None:
        """These records, and no others, are in that file from now on. Replaced in one go, as an editor does."""
        new = self.manifests / f".{file}.new"
        new.write_text(yaml.safe_dump_all(records), encoding="utf-8")
        new.rename(self.manifests / file)

    def dm_name(self, name: str, pool: str = "tank") -> str:
        return f"{self.prefix}{pool}-{name}"

    def key(self, name: str, pool: str = "tank") -> str:
        return f"{self.prefix}{pool}/{name}"

    # The daemon

    def start(self, *arguments: str) -> None:
        """Start the daemon and wait until it listens. With the arguments of its last start if none are given."""
        self.arguments = arguments or self.arguments
        command = [sys.executable, "-m", "reconciler", "run", "--manifests", str(self.manifests)]
        listen = ["--state-dir", str(self.state), "--listen", "127.0.0.1:0"]
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, *listen, *self.arguments], stdout=log, stderr=log)
        self.port = eventually(lambda: self._listening(before), "the daemon listens")

    def _listening(self, since: int) -> int:
        assert self.process is not None
        text = self.log.read_text(encoding="utf-8")[since:]
        assert self.process.poll() is None, f"the daemon ended: {text}"
        found = [
            word for line in text.splitlines() if "listening on" in line for word in line.split() if "http:" in word
        ]
        return int(found[0].rstrip(",/").rpartition(":")[2]) if found else 0

    def stop(self, number: int = signal.SIGTERM, within: float = 10.0) -> int:
        """The exit code. Raises TimeoutExpired if it does not end in time."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(within)
        self.process = None
        return code

    def crash(self) -> None:
        """SIGKILL for the daemon and its workers, in the midst of whatever they do."""
        assert self.process is not None
        workers = children_of(self.process.pid)
        self.process.kill()
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-lines:]) if self.log.exists() else ""

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if path.startswith("/api") else text

    def cli(self, *words: str, check: bool = True, timeout: float = 120) -> Run:
        """A command of the program; the state directory is added where it takes one."""
        without = {"validate", "schema", "sandbox"}
        state = [] if words[0] in without else ["--state-dir", str(self.state)]
        return run(sys.executable, "-m", "reconciler", *words, *state, check=check, timeout=timeout)

    # What is so

    def status(self, name: str, pool: str = "tank") -> dict[str, Any]:
        """Of a device; empty while it is not known."""
        return self._status("devices", self.key(name, pool))

    def pool_status(self, pool: str = "tank") -> dict[str, Any]:
        return self._status("pools", self.prefix + pool)

    def _status(self, kind: str, name: str) -> dict[str, Any]:
        items = self.get(f"/api/v1/{kind}")["items"]
        found = [item["status"] for item in items if item["metadata"]["name"] == name]
        return (found[0] or {}) if found else {}

    def wait(self, name: str, reason: str = "Converged", pool: str = "tank", **others: Any) -> dict[str, Any]:
        """Until the device has that reason, and these other fields of its status."""
        return self._wait(lambda: self.status(name, pool), self.key(name, pool), {"reason": reason, **others})

    def wait_pool(self, reason: str = "Converged", pool: str = "tank", **others: Any) -> dict[str, Any]:
        return self._wait(lambda: self.pool_status(pool), self.prefix + pool, {"reason": reason, **others})

    def _wait(self, ask: Callable[[], dict[str, Any]], name: str, wanted: dict[str, Any]) -> dict[str, Any]:
        def fits() -> dict[str, Any]:
            status = ask()
            return status if wanted.items() <= status.items() else {}

        try:
            found: dict[str, Any] = eventually(fits, f"{name} is {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {ask()}\n{self.tail()}") from None
        return found

    def events(self, name: str = "") -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.get("/api/v1/events")["items"]
        return [event for event in events if not name or event["object"]["name"] == name]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series; 0 where it is not there."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.get("/metrics").splitlines():
            series, _, value = line.rpartition(" ")
            head, _, rest = series.partition("{")
            if head == name and wanted <= set(rest.rstrip("}").split(",")):
                return float(value)
        return 0.0

    def info(self, name: str, pool: str = "tank") -> DeviceInfo | None:
        return self.dm.info(self.dm_name(name, pool))

    def node(self, name: str, pool: str = "tank") -> Path:
        return Path("/dev/mapper", self.dm_name(name, pool))

    def table(self, name: str, pool: str = "tank") -> str:
        """The live table as dmsetup shows it; empty where there is none."""
        info = self.info(name, pool)
        return "" if info is None else " ".join(map(str, self.dm.table(info.name)))

    def thin_table(self, name: str, pool: str = "tank") -> str:
        """The table that the device has, or would have."""
        status, info = self.status(name, pool), self.dm.info(self.prefix + pool)
        assert info is not None
        return f"0 {status['sizeBytes'] // 512} thin {info.devno} {status['deviceId']}"

    def thin_ids(self, pool: str = "tank") -> dict[int, ThinEntry]:
        """All thin ids in the pool, read while the daemon is asleep: only one can hold the metadata snapshot."""
        name = self.prefix + pool
        (target,) = self.dm.table(name)
        with self.asleep():
            eventually(lambda: self._reserves(name), "the pool's metadata snapshot is free")
            try:
                return HostTools().thin_ls(f"/dev/block/{target.params.split()[0]}", live=True)
            finally:
                self.dm.message(name, "release_metadata_snap")

    def _reserves(self, pool: str) -> bool:
        try:
            self.dm.message(pool, "reserve_metadata_snap")
        except HostError:  # the worker is at it
            return False
        return True

    def told(self, name: str, kind: str, reason: str, pool: str = "tank") -> bool:
        """Whether an event of that type and reason was written about the device."""
        return any((e["type"], e["reason"]) == (kind, reason) for e in self.events(self.key(name, pool)))

    # What a test does

    def have(self, name: str, reason: str = "Converged", pool: str = "tank", **spec: Any) -> dict[str, Any]:
        """Declare that device in a file of its own, in the place of what was declared there, and wait."""
        self.change(name, pool, **spec)
        return self.wait(name, reason, pool)

    def change(self, name: str, pool: str = "tank", **spec: Any) -> None:
        """As `have`, without waiting for more than that the daemon has seen it."""
        is_new = not self.status(name, pool)
        loaded = "dm_reconciler_manifest_last_load_timestamp_seconds"
        before, file = self.metric(loaded), self.manifests / f"{pool}-{name}.yaml"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        self.declare(self.device(name, pool, **spec), file=file.name)
        if file.read_text(encoding="utf-8") != text:
            eventually(lambda: self.metric(loaded) > before, "the manifests are read again")
        if not is_new:
            self.look_again(1)  # until then, its status is that of the former record

    def look_again(self, times: int = 2) -> None:
        """Until the daemon has gone over every pool so many times more."""
        pools = len(self.get("/api/v1/pools")["items"])
        counted = "dm_reconciler_resync_duration_seconds_count"
        wanted = self.metric(counted) + times * pools + 1  # the one under way may have begun before
        eventually(lambda: self.metric(counted) >= wanted, "the daemon looks again")

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """The daemon does nothing meanwhile: a test makes a state of several steps, as a crash or a person leaves it."""
        if self.process is None:
            yield
            return
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    @contextmanager
    def mounted(self, name: str, pool: str = "tank", *options: str) -> Iterator[Path]:
        """The device, mounted meanwhile."""
        point = self.root / f"on-{pool}-{name}"
        point.mkdir(exist_ok=True)
        run("mount", *options, str(self.node(name, pool)), str(point))
        try:
            yield point
        finally:
            run("umount", str(point))

    # Clean-up

    def clean_up(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for lock in Path("/run/dm-reconciler").glob(f"{self.prefix}*.lock"):
            eventually(lambda lock=lock: _is_free(lock), f"{lock} is let go")  # type: ignore[misc]
            lock.unlink()
        remove_devices(self.dm, self.prefix)
        for line in run(
            "losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE", check=False
        ).out.splitlines():
            node, _, file = line.partition(" ")
            if file.strip().startswith(str(self.root)):
                run("losetup", "--detach", node)


@contextmanager
def an_environment() -> Iterator[Environment]:
    """On an own tmpfs. What is left of it afterwards is an error."""
    root = Path(tempfile.mkdtemp(prefix="dmrtest-", dir="/run"))
    run("mount", "-t", "tmpfs", "-o", "size=2G", "dmrtest", str(root))
    env = Environment(root, f"dmrtest-{secrets.token_hex(3)}-")
    try:
        yield env
    finally:
        env.clean_up()
        run("umount", str(root), check=False)
        if os.path.ismount(root):
            run("umount", "--lazy", str(root))
        root.rmdir()


def children_of(pid: int) -> list[int]:
    """Of all its threads, of which one may end at any moment."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            children += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return children


def eventually(ask: Callable[[], Any], what: str, within: float = PATIENCE, pause: float = 0.15) -> Any:
    """The first true answer. Looks often at first, then less: on one CPU, who asks is in the way of who works.

    `pause` is the longest time between two looks; shorter for what passes by.
    """
    end, wait = time.monotonic() + within, min(0.02, pause)
    while True:
        try:
            answer = ask()
        except (urllib.error.URLError, ConnectionError):
            answer = None
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not so within {within:.0f} s: {what}")
        time.sleep(wait)
        wait = min(pause, wait * 1.5)


def _document(kind: str, name: str, spec: dict[str, Any]) -> Record:
    return {"apiVersion": "dm-reconciler/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _is_free(lock: Path) -> bool:
    return run("flock", "--nonblock", str(lock), "true", check=False).code == 0

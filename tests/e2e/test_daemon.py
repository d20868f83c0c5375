"""The daemon as a process: locks, signals, broken manifests, systemd, and what is left when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, children_of, eventually
from tests.testing.pools import dmsetup, exists, is_suspended, passes, pool_status
from tests.testing.real_kernel import Run, run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


@pytest.fixture
def running(env: Environment) -> Environment:
    """With a pool and a device, as desired."""
    for file in env.manifests.iterdir():
        if file.name != "all.yaml":
            file.unlink()
    env.declare(env.pool(), env.device("a"))
    if env.process is None:
        env.start("--suspend-grace", "1s")
    eventually(lambda: exists(env, env.dm_name("a")), "the device is there")
    env.wait("a", live="Active")
    return env


def _run(env: Environment, state: Path, *arguments: str) -> Run:
    """Another daemon, which is expected to end by itself."""
    places = ["--manifests", str(env.manifests), "--state-dir", str(state), "--listen", "127.0.0.1:0"]
    return run(sys.executable, "-m", "reconciler", "run", *places, *arguments, check=False)


def _answers(env: Environment, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{env.port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _workers(env: Environment) -> list[int]:
    """Of this daemon."""
    assert env.process is not None
    pids = children_of(env.process.pid)
    return [pid for pid in pids if b"kernel.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_second_daemon_on_the_same_state_says_who_has_it(running: Environment) -> None:
    assert running.process is not None
    said = _run(running, running.state)
    assert said.code == 1
    assert str(running.process.pid) in said.err
    assert "Traceback" not in said.err


def test_a_second_daemon_on_the_same_pool_says_who_has_it(running: Environment) -> None:
    said = _run(running, running.root / "other-state")
    assert said.code == 1
    assert str(running.state) in said.err
    assert running.prefix + "tank" in said.err
    assert "Traceback" not in said.err
    assert running.pool_status()["ready"]


def test_a_half_written_file_never_takes_a_device_down(running: Environment) -> None:
    text = (running.manifests / "all.yaml").read_text(encoding="utf-8")
    for part in range(0, len(text), max(1, len(text) // 6)):
        (running.manifests / "all.yaml").write_text(text[:part], encoding="utf-8")
        passes(running, 1)
        assert exists(running, running.dm_name("a")), text[:part]
    (running.manifests / "all.yaml").write_text(text, encoding="utf-8")
    running.wait("a", live="Active")


def test_a_broken_file_is_told_and_the_last_good_set_goes_on(running: Environment) -> None:
    (running.manifests / "broken.yaml").write_text("kind: ThinPool\nspec: {stat: Active}\n", encoding="utf-8")
    eventually(lambda: running.metric("dm_reconciler_manifest_errors") > 0, "the errors are counted")
    dmsetup("remove", "--retry", running.dm_name("a"))
    eventually(lambda: exists(running, running.dm_name("a")), "it is healed as before")
    assert "broken.yaml:" in running.tail(100)
    (running.manifests / "broken.yaml").unlink()
    eventually(lambda: running.metric("dm_reconciler_manifest_errors") == 0, "all is well again")


def test_a_start_with_broken_manifests_goes_on_with_the_last_good_set(running: Environment) -> None:
    running.stop(signal.SIGKILL)
    (running.manifests / "broken.yaml").write_text("half a fi", encoding="utf-8")
    dmsetup("remove", "--retry", running.dm_name("a"))
    running.start()
    eventually(lambda: exists(running, running.dm_name("a")), "it is activated")
    running.wait("a", live="Active")
    eventually(lambda: _answers(running, "/readyz") == 200, "it is ready")


def test_a_daemon_that_never_had_good_manifests_waits_and_is_not_ready(running: Environment) -> None:
    assert running.stop() == 0
    kept = running.state.rename(running.root / "kept")
    (running.manifests / "broken.yaml").write_text("half a fi", encoding="utf-8")
    running.start()
    assert _answers(running, "/healthz") == 200
    assert _answers(running, "/readyz") == 503
    assert exists(running, running.dm_name("a"))
    assert running.stop() == 0
    kept.rename(running.root / "state-again")
    run("rm", "-r", str(running.state))
    (running.root / "state-again").rename(running.state)


def test_sigterm_ends_it_within_seconds_and_leaves_the_devices(running: Environment) -> None:
    begun = time.monotonic()
    assert running.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begun < 5
    assert exists(running, running.dm_name("a"))


def test_observe_reports_and_touches_nothing(env: Environment) -> None:
    if env.process is not None:
        env.stop()
    env.declare(env.pool(), env.device("a"), env.device("more"), env.pool("second"))
    arguments = env.arguments
    env.start(*arguments, "--observe")
    dmsetup("suspend", env.dm_name("a"))
    env.wait("a", "Suspended")
    env.wait("more", "NotCreated")
    env.wait_pool("PoolMissing", "second")
    passes(env, 3)
    assert is_suspended(env, env.dm_name("a"))
    assert not (env.root / "second.data").exists()
    assert pool_status(env.prefix + "tank")[0] == "1"
    dmsetup("resume", env.dm_name("a"))
    assert env.stop() == 0
    env.arguments = arguments


def test_systemd_is_told_of_start_life_reload_and_end(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(env.root / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    env.declare(env.pool(), env.device("a"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(30)
        if env.process is not None:
            env.stop()
        env.start()
        heard = _hear(systemd, "READY=1")
        assert _answers(env, "/readyz") == 200
        _hear(systemd, "WATCHDOG=1")
        assert env.process is not None
        env.process.send_signal(signal.SIGHUP)
        heard = _hear(systemd, "RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in heard)
        _hear(systemd, "READY=1")
        assert env.stop() == 0
        _hear(systemd, "STOPPING=1")


def _hear(systemd: socket.socket, line: str) -> list[str]:
    """The lines of the first message that has this one."""
    while True:
        lines = systemd.recv(4096).decode().splitlines()
        if line in lines:
            return lines


def test_sighup_reads_the_manifests_again(running: Environment) -> None:
    assert running.process is not None
    running.declare(running.pool(), running.device("a"), running.device("hup"))
    running.process.send_signal(signal.SIGHUP)
    running.wait("hup", live="Active")
    running.declare(running.pool(), running.device("a"), running.device("hup", state="Absent"))
    running.wait("hup", live="Absent")


def test_a_killed_worker_is_started_again(running: Environment) -> None:
    eventually(lambda: len(_workers(running)) == 1, "there is one worker")
    (worker,) = _workers(running)
    os.kill(worker, signal.SIGKILL)
    dmsetup("remove", "--retry", running.dm_name("a"))
    eventually(lambda: exists(running, running.dm_name("a")), "it is healed")
    running.wait("a", live="Active")
    assert _workers(running) not in ([], [worker])


@pytest.mark.soak
def test_killed_while_it_makes_devices_it_leaks_no_id(running: Environment) -> None:
    """Killed several times, each time after a few more."""
    names = [f"n{number}" for number in range(24)]
    pool = running.prefix + "tank"
    at = int(pool_status(pool)[0])
    filesystem = {"type": "ext4"}
    devices = [running.device(name, state="Inactive") for name in names[:-2]]
    devices += [running.device(name, size="32MiB", filesystem=filesystem) for name in names[-2:]]
    running.declare(*devices, file="many.yaml")
    for more in (3, 9, 15):
        eventually(lambda more=more: int(pool_status(pool)[0]) >= at + more, f"{more} are made")  # type: ignore[misc]
        running.stop(signal.SIGKILL)
        running.start()
    for name in names:
        running.wait(name)
    eventually(lambda: _answers(running, "/readyz") == 200, "a whole pass is done")
    assert running.pool_status()["leakedThinIds"] == []
    ids = [running.status(name)["deviceId"] for name in ("a", *names)]
    assert len(set(ids)) == len(ids)
    assert _ids_in(running) == len(ids)
    running.wait_pool()


def _ids_in(env: Environment) -> int:
    """As the pool itself tells."""
    pool = env.prefix + "tank"
    number = dmsetup("table", pool).split()[3]
    metadata = f"/dev/{Path('/sys/dev/block', number).resolve().name}"
    dmsetup("message", pool, "0", "reserve_metadata_snap")
    try:
        return len(run("thin_ls", "--metadata-snap", "--no-headers", metadata).out.splitlines())
    finally:
        dmsetup("message", pool, "0", "release_metadata_snap")

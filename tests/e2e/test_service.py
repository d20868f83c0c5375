"""deploy/systemd on a real systemd: under all of its restrictions the daemon does all of its work.

How it is restarted, stopped and waited for takes long: `make soak`.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.kernel.privileges import EVERY
from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import MIB, run
from tests.testing.systemd import EMPTY, Systemd, a_systemd, why_not

TREE = Path(__file__).parents[2]
UNITS = TREE / "deploy/systemd"
PAGE = TREE / "docs/deploy.md"
UNIT = "dm-reconciler.service"
PROGRAM = f"{sys.executable} -m reconciler"
COMMANDS = {UNIT: "run", "dm-reconciler-wait@.service": "wait device %I"}
RULES = {"without-rule.service": "", "with-rule.service": "DeviceAllow=char-misc rw"}
PORT = 9813
LOCKS = Path("/run/dm-reconciler")
STATE = Path("/var/lib/dm-reconciler")

pytestmark = [pytest.mark.soak, pytest.mark.skipif(bool(why_not()), reason=why_not())]

SETTINGS = """\
DM_RECONCILER_RUN_MANIFESTS={manifests}
DM_RECONCILER_RUN_LISTEN=127.0.0.1:{port}
DM_RECONCILER_RUN_SUSPEND_GRACE=1s
DM_RECONCILER_WAIT_TIMEOUT=30s
"""
DROP_IN = """\
[Service]
EnvironmentFile={settings}
ExecStart=
ExecStart={command}
StandardOutput=append:{log}
StandardError=append:{log}
"""


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.state, env.port = STATE, PORT
        yield env


@pytest.fixture(scope="module")
def systemd(env: Environment) -> Iterator[Systemd]:
    """With the units of the tree, and drop-ins that say where a test has its things."""
    settings = env.root / "settings"
    settings.write_text(SETTINGS.format(manifests=env.manifests, port=PORT), encoding="utf-8")
    files = {unit: (UNITS / unit).read_text(encoding="utf-8") for unit in COMMANDS}
    for unit, command in COMMANDS.items():
        text = DROP_IN.format(settings=settings, command=f"{PROGRAM} {command}", log=env.log)
        files[f"{unit}.d/here.conf"] = text + ("WatchdogSec=10s\n" if unit == UNIT else "")
    for name, rule in RULES.items():
        files[name] = f"{EMPTY}[Service]\nType=oneshot\nDevicePolicy=closed\n{rule}\nExecStart=dmsetup version\n"
    with a_systemd(env.root, files) as systemd:
        yield systemd
        systemd.ctl("stop", UNIT, check=False)


@pytest.fixture(scope="module")
def served(env: Environment, systemd: Systemd) -> Environment:
    """The daemon has said that it is ready."""
    env.declare(env.pool(data={"file": str(env.root / "tank.data"), "size": "1GiB"}), file="pool.yaml")
    started = systemd.ctl("start", UNIT, check=False)
    assert started.code == 0, f"{started.err}\n{env.tail()}\n{systemd.log()}"
    return env


def test_once_it_is_started_the_first_pass_is_done(served: Environment, systemd: Systemd) -> None:
    assert systemd.show(UNIT, "ActiveState") == "active"
    assert served.get("/readyz")
    assert served.pool_status()["live"] == "Active"


def test_it_holds_what_the_list_names_and_is_confined(served: Environment, systemd: Systemd) -> None:
    text = Path(f"/proc/{systemd.main_pid(UNIT)}/status").read_text(encoding="ascii")
    found = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == sum(1 << one.bit for one in EVERY)
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    for folder in (STATE, LOCKS):
        assert (folder.stat().st_mode & 0o7777, folder.stat().st_uid) == (0o700, 0)
    assert "is missing" not in served.tail(1000)
    assert "cannot lock" not in served.tail(1000)


@pytest.mark.security("S08")
def test_without_a_rule_for_devices_no_capability_opens_one(systemd: Systemd) -> None:
    """What a container's runtime does too: hence privileged, in docs/deploy.md."""
    assert systemd.ctl("start", "with-rule.service", check=False).code == 0
    assert systemd.ctl("start", "without-rule.service", check=False).code != 0


@pytest.mark.security("S07")
def test_it_makes_snapshots_grows_and_heals(served: Environment, systemd: Systemd) -> None:
    """Everything for which the restrictions of the unit would be in the way, were they too tight."""
    ext4, xfs = {"type": "ext4"}, {"type": "xfs"}
    point = served.root / "on-e"
    point.mkdir()
    served.declare(served.device("e", filesystem=ext4), served.device("x", size="320MiB", filesystem=xfs))
    served.wait("e")
    served.wait("x")
    systemd.call("mount", str(served.node("e")), str(point))
    grown = (served.device("e", size="32MiB", filesystem=ext4), served.device("x", size="336MiB", filesystem=xfs))
    served.declare(*grown, served.device("s", snapshotOf="e", discardOnDelete=True))
    for name, size in (("e", 32), ("x", 336)):
        served.wait(name, sizeBytes=size * MIB)
    served.wait("s")
    assert int(systemd.call("df", "--block-size=1M", "--output=size", str(point)).out.split()[1]) > 24
    run("dmsetup", "remove", "--retry", served.dm_name("s"))
    run("dmsetup", "suspend", served.dm_name("x"))
    eventually(lambda: served.told("s", "Healed", "InactiveButDesiredActive"), "the snapshot is back")
    eventually(lambda: served.told("x", "Healed", "Suspended"), "the suspended one is resumed")
    served.declare(*grown, served.device("s", state="Absent", discardOnDelete=True))
    served.wait("s", live="Absent")
    systemd.call("umount", str(point))


@pytest.mark.soak
def test_a_reload_is_over_when_the_daemon_says_so_and_is_no_restart(served: Environment, systemd: Systemd) -> None:
    process = systemd.main_pid(UNIT)
    served.declare(served.device("new"), file="new.yaml")
    systemd.ctl("reload", UNIT)
    served.wait("new")
    eventually(lambda: systemd.show(UNIT, "ActiveState") == "active", "the reload has ended")
    assert systemd.main_pid(UNIT) == process


@pytest.mark.soak
def test_a_mount_waits_for_its_device_outlives_a_restart_and_grows_after_it(
    served: Environment, systemd: Systemd
) -> None:
    key, point = served.key("app"), served.root / "on-app"
    point.mkdir()
    mount = run("systemd-escape", "--path", "--suffix=mount", str(point)).out
    systemd.add(mount, as_in_fstab(served, f"{served.node('app')} {point} ext4", run("systemd-escape", key).out, mount))
    systemd.ctl("start", "--no-block", mount)
    served.have("app", filesystem={"type": "ext4"})
    eventually(lambda: systemd.show(mount, "ActiveState") == "active", f"it is mounted: {systemd.log()}")
    systemd.ctl("restart", UNIT)
    assert systemd.show(mount, "ActiveState") == "active"
    served.have("app", size="32MiB", filesystem={"type": "ext4"})
    assert int(systemd.call("df", "--block-size=1M", "--output=size", str(point)).out.split()[1]) > 24
    systemd.ctl("stop", mount)


def as_in_fstab(env: Environment, line: str, instance: str, mount: str) -> str:
    """The unit that systemd makes of a line of /etc/fstab."""
    fstab, made = env.root / "fstab", env.root / "generated"
    made.mkdir()
    options = f"x-systemd.requires=dm-reconciler-wait@{instance}.service,x-systemd.after=dm-reconciler.service,nofail"
    fstab.write_text(f"{line} {options} 0 0\n", encoding="utf-8")
    generator = "/lib/systemd/system-generators/systemd-fstab-generator"
    run("env", f"SYSTEMD_FSTAB={fstab}", generator, *[str(made)] * 3)
    return (made / mount).read_text(encoding="utf-8")


def workers() -> list[int]:
    named = [folder for folder in Path("/proc").glob("[0-9]*") if b"kernel.worker" in _command(folder)]
    return [int(folder.name) for folder in named]


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.soak
def test_a_worker_that_does_not_end_holds_up_no_restart_and_keeps_its_pool(
    served: Environment, systemd: Systemd
) -> None:
    """Stopped by a signal, as one that hangs in the kernel: it does not hear that the daemon is gone."""
    served.have("kept")
    (worker,) = workers()
    lock = LOCKS / f"{served.prefix}tank.lock"
    inode = lock.stat().st_ino
    os.kill(worker, signal.SIGSTOP)
    systemd.ctl("restart", UNIT)
    assert worker in workers()
    assert lock.stat().st_ino == inode
    said = served.wait_pool("Stuck")
    assert str(STATE) in said["message"]
    os.kill(worker, signal.SIGCONT)
    served.wait_pool()
    assert worker not in workers()


@pytest.mark.soak
def test_a_daemon_that_does_not_turn_is_replaced(served: Environment, systemd: Systemd) -> None:
    process = systemd.main_pid(UNIT)
    os.kill(process, signal.SIGSTOP)
    eventually(lambda: systemd.show(UNIT, "NRestarts") == "1", "systemd starts another")
    eventually(lambda: systemd.show(UNIT, "ActiveState") == "active", "it is ready")
    served.wait_pool()


def commands(heading: str) -> list[str]:
    """The blocks of docs/deploy.md below it."""
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    return re.findall(r"^```sh\n(.*?)^```$", below.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


@pytest.mark.soak
def test_what_was_backed_up_can_be_put_back_with_the_devices_in_use(served: Environment, systemd: Systemd) -> None:
    served.have("saved")
    known = served.status("saved")["deviceId"]
    for block in commands("Back up"):
        systemd.call("sh", "-ec", block)
    assert served.wait("saved")["deviceId"] == known
    served.wait_pool()


@pytest.mark.soak
def test_the_copy_that_an_upgrade_keeps_can_be_put_back(served: Environment, systemd: Systemd) -> None:
    served.have("older")
    with closing(sqlite3.connect(STATE / "state.db")) as store:
        store.execute("VACUUM INTO ?", (str(STATE / "state.db.version-2"),))
    served.have("newer")
    _, back = commands("Upgrade")
    systemd.call("sh", "-ec", back)
    served.wait_pool("MetadataMismatch")
    assert served.info("older") is not None
    repaired = systemd.call(*PROGRAM.split(), "doctor", "--fix", "--yes", check=False)
    assert "held by" in repaired.err or "in use by" in repaired.err, "it wants to be alone"
    systemd.ctl("stop", UNIT)
    systemd.call(*PROGRAM.split(), "doctor", "--fix", "--yes", "--manifests", str(served.manifests), check=False)
    systemd.ctl("start", UNIT)
    served.wait("older")


@pytest.mark.soak
def test_stopped_it_leaves_devices_and_locks_where_they_are(served: Environment, systemd: Systemd) -> None:
    served.have("left")
    systemd.ctl("stop", UNIT)
    assert systemd.show(UNIT, "Result") == "success"
    assert served.info("left") is not None
    assert list(LOCKS.glob("*.lock"))
    assert STATE.exists()

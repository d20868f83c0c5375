"""The units of deploy/systemd, as systemd itself reads them. On a real one they run in tests/e2e/test_service.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import click
import pytest

from reconciler.kernel.privileges import EVERY

TREE = Path(__file__).parents[3]
UNITS = TREE / "deploy/systemd"
SERVICE = UNITS / "dm-reconciler.service"
WAIT = UNITS / "dm-reconciler-wait@.service"
DEFAULTS = UNITS / "dm-reconciler.default"
GENERATOR = Path("/lib/systemd/system-generators/systemd-fstab-generator")
EXPOSURE = {SERVICE: {252: 35, 257: 35}, WAIT: {252: 25, 257: 23}}
"""Tenths, as `--threshold` takes them, by the version of systemd that counts: Debian 12's, Debian 13's. What is left is
needed: root, as /dev/mapper/control is root's alone; devices; mounts, for xfs; the capabilities of the list, and capset to
drop the others; the host's network, in which udev is heard, and its processes, among which holders are found; sockets for
HTTP, netlink and systemd; /sys, to have udev look again."""

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="THE UNITS WERE NOT CHECKED: there is no systemd-analyze here, `apt-get install systemd`",
)


def settings(unit: Path) -> dict[str, list[str]]:
    """Every directive with its values, in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *words], check=False, capture_output=True, text=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's files, as far as systemd looks at them: its own units, ours, and the programs that ours start."""
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    shutil.copytree("/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    own = tmp_path / "etc/systemd/system"
    own.mkdir(parents=True)
    for unit in (SERVICE, WAIT):
        shutil.copy(unit, own)
    for program in ("usr/local/bin/dm-reconciler", "bin/kill", "bin/mount", "lib/systemd/systemd-fsck"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).write_text("#!/bin/sh\n", encoding="ascii")
        (tmp_path / program).chmod(0o755)
    return tmp_path


def verify(root: Path, *units: str) -> str:
    """What systemd finds wrong with what is ours."""
    done = analyze("verify", "--man=no", f"--root={root}", *units)
    lines = done.stderr.splitlines()
    return "\n".join(line for line in lines if "dm-reconciler" in line or "data.mount" in line or "cycle" in line)


def test_systemd_finds_nothing_wrong_with_the_units(root: Path) -> None:
    assert verify(root, SERVICE.name, "dm-reconciler-wait@tank-app.service") == ""


def test_it_would_find_what_is_wrong(root: Path) -> None:
    unit = root / "etc/systemd/system" / SERVICE.name
    unit.write_text(unit.read_text(encoding="utf-8").replace("WatchdogSec=30s", "WatchdogSecs=30s"), encoding="utf-8")
    assert "Unknown key 'WatchdogSecs'" in verify(root, SERVICE.name)


@pytest.mark.parametrize("unit", EXPOSURE, ids=lambda unit: unit.name)
def test_it_is_exposed_no_more_than_it_must_be(unit: Path) -> None:
    version = int(analyze("--version").stdout.split()[1])
    figure = EXPOSURE[unit][max(known for known in EXPOSURE[unit] if known <= version)]
    done = analyze("security", "--offline=yes", f"--threshold={figure}", str(unit))
    assert done.returncode == 0, done.stdout
    tighter = analyze("security", "--offline=yes", f"--threshold={figure - 1}", str(unit))
    assert tighter.returncode != 0, "it is less by now: write down the lower figure"


def test_its_capabilities_are_those_of_the_program() -> None:
    (line,) = settings(SERVICE)["CapabilityBoundingSet"]
    assert line.split() == [capability.name for capability in EVERY]


def test_who_waits_can_ask_the_daemon() -> None:
    """Else nothing is ever known to be ready: what the store says may be of the past."""
    (families,) = settings(WAIT)["RestrictAddressFamilies"]
    assert {"AF_INET", "AF_INET6"} <= set(families.split())
    assert "PrivateNetwork" not in settings(WAIT)


def test_nothing_hides_what_it_works_with() -> None:
    """docs/security.md names what must stay off."""
    page = " ".join((TREE / "docs/security.md").read_text(encoding="utf-8").split())
    (sentence,) = re.findall(r"These must stay off.*?without", page)
    off = set(re.findall(r"`(\w+)=", sentence))
    assert {"PrivateDevices", "ProtectHome", "ProtectSystem"} <= off
    assert off & settings(SERVICE).keys() == {"ProtectSystem"}
    assert settings(SERVICE)["ProtectSystem"] == ["full"]


# fstab


@pytest.fixture
def with_a_mount(root: Path, tmp_path: Path) -> Path:
    """The line of the wait unit's own comment, as systemd makes a mount of it."""
    if not GENERATOR.exists():
        pytest.skip(f"THE MOUNT WAS NOT CHECKED: there is no {GENERATOR}")
    (line,) = re.findall(r"^#   (/dev/mapper/.*)$", WAIT.read_text(encoding="utf-8"), re.MULTILINE)
    fstab = tmp_path / "fstab"
    fstab.write_text(line + "\n", encoding="utf-8")
    made = str(root / "etc/systemd/system")
    subprocess.run([GENERATOR, made, made, made], check=True, env={"SYSTEMD_FSTAB": str(fstab)})
    return root


def test_a_mount_of_fstab_waits_for_its_device_without_a_cycle(with_a_mount: Path) -> None:
    mount = (with_a_mount / "etc/systemd/system/data.mount").read_text(encoding="utf-8")
    assert "Requires=dm-reconciler-wait@tank-app.service" in mount
    assert "After=dm-reconciler-wait@tank-app.service" in mount
    assert verify(with_a_mount, "data.mount", "local-fs.target", SERVICE.name) == ""


def test_a_mount_of_fstab_is_gone_before_the_daemon_is(with_a_mount: Path) -> None:
    """The waiting unit has ended by then, and who is after one that has ended is in no order with the daemon."""
    mount = (with_a_mount / "etc/systemd/system/data.mount").read_text(encoding="utf-8")
    assert "After=dm-reconciler.service" in mount
    assert "Requires=dm-reconciler.service" not in mount
    assert "RemainAfterExit" not in settings(WAIT)


def test_the_page_has_the_same_line_for_fstab() -> None:
    (line,) = re.findall(r"^#   (/dev/mapper/.*)$", WAIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert line in (TREE / "docs/deploy.md").read_text(encoding="utf-8")


def test_with_default_dependencies_the_mount_would_wait_for_itself(with_a_mount: Path) -> None:
    own = with_a_mount / "etc/systemd/system"
    mount = own / "data.mount"
    mount.write_text(mount.read_text(encoding="utf-8").replace("[Mount]", "Before=local-fs.target\n[Mount]"), "utf-8")
    for unit in (SERVICE, WAIT):
        text = unit.read_text(encoding="utf-8").replace("DefaultDependencies=no", "DefaultDependencies=yes")
        (own / unit.name).write_text(text, encoding="utf-8")
    (own / "local-fs.target.d").mkdir()
    (own / "local-fs.target.d/data.conf").write_text("[Unit]\nRequires=data.mount\n", encoding="utf-8")
    assert "cycle" in verify(with_a_mount, "data.mount", "local-fs.target", SERVICE.name)


def test_a_restart_of_the_daemon_takes_no_mount_away() -> None:
    """Requires= and BindsTo= would stop whoever waits whenever the daemon stops."""
    assert {"Requires", "BindsTo", "PartOf"} & settings(WAIT).keys() == set()
    assert "dm-reconciler.service" in settings(WAIT)["Wants"]


def test_a_worker_left_behind_holds_up_no_restart_and_keeps_its_lock() -> None:
    """Seen on a real systemd in tests/e2e/test_service.py, which takes longer."""
    found = settings(SERVICE)
    assert found["KillMode"] == ["process"]
    assert found["RuntimeDirectoryPreserve"] == ["yes"]


# /etc/default/dm-reconciler


def variables() -> dict[str, str]:
    return dict(re.findall(r"^#?(DM_RECONCILER_\w+)=(.*)$", DEFAULTS.read_text(encoding="utf-8"), re.MULTILINE))


def defaults(name: str) -> dict[str, object]:
    """Of each option of a command that has a plain one."""
    command: click.Command = import_module(f"reconciler.cli.{name}").command
    return {f"DM_RECONCILER_{name}_{one.name}".upper(): one.default for one in command.params}


def test_each_setting_is_an_option_and_is_shown_with_its_default() -> None:
    given = {line for unit in (SERVICE, WAIT) for line in settings(unit)["Environment"]}
    known = defaults("run") | defaults("wait") | dict(line.split("=", 1) for line in given)
    shown = variables()
    assert len(shown) > 8
    assert shown.keys() <= known.keys()
    free = {"DM_RECONCILER_RUN_NODE", "DM_RECONCILER_RUN_OBSERVE"}
    assert {name: value for name, value in shown.items() if name not in free and known[name] != value} == {}


def test_every_option_of_the_daemon_is_among_the_settings_but_where_its_state_is() -> None:
    """The unit says where: StateDirectory=."""
    assert defaults("run").keys() - variables().keys() == {"DM_RECONCILER_RUN_STATE_DIR"}


def test_settings_are_off_until_somebody_turns_them_on() -> None:
    assert not re.findall(r"^[^#\n]", DEFAULTS.read_text(encoding="utf-8"), re.MULTILINE)

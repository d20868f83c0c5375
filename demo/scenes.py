"""What the world does to devices. Each scene breaks one thing with ordinary tools, and sees it healed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Final

from demo.daemon import NotSo, until
from demo.environment import MOUNTED, Environment
from demo.kernel import devices, digest, has_thin_id, is_live, loops, shell, table
from demo.screen import Outcome

COPY: Final = """\
apiVersion: dm-reconciler/v1
kind: ThinDevice
metadata:
  name: copy
spec:
  pool: tank
  snapshotOf: scratch
  readOnly: true
"""
Scene = Callable[[Environment, Outcome], None]


def removed(environment: Environment, outcome: Outcome) -> None:
    """Somebody removes a device that is to be active"""
    since = time.time()
    environment.run("dmsetup remove tank-app")
    outcome.checked = "dmsetup: tank-app is live, on its thin id"
    wanted = environment.daemon.status("tank/app")["deviceId"]
    environment.see_healed("tank/app", since, lambda: table("tank-app").endswith(f" {wanted}"), outcome)


def suspended(environment: Environment, outcome: Outcome) -> None:
    """A backup script dies between suspend and resume, and fdisk hangs for everybody"""
    since = time.time()
    environment.run("dmsetup suspend vault-ledger")
    environment.screen.command("fdisk -l &")
    reader = subprocess.Popen(["fdisk", "-l"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    if reader.poll() is not None:
        raise NotSo(f"fdisk was to hang on the suspended device, but ended with {reader.returncode}")
    environment.screen.answer("hangs: it waits for the suspended device, and not even kill -9 would end it")

    def holds() -> bool:
        return reader.poll() == 0 and is_live("vault-ledger", "thin")

    outcome.checked = "dmsetup: live; the hanging fdisk went on and ended with 0"
    environment.see_healed("vault/ledger", since, holds, outcome)


def committed(environment: Environment, outcome: Outcome) -> None:
    """A golden image that nobody may write is activated by hand"""
    base = environment.daemon.status("tank/base")
    sectors = base["sizeBytes"] // 512
    since = time.time()
    environment.run(f"dmsetup create tank-base --table '0 {sectors} thin /dev/mapper/tank {base['deviceId']}'")
    outcome.checked = "dmsetup: no device tank-base; its data is kept"
    environment.see_healed("tank/base", since, lambda: not table("tank-base"), outcome)


def replaced(environment: Environment, outcome: Outcome) -> None:
    """Somebody forces a device away under a program that has it open, and leaves an error table"""
    with open("/dev/mapper/tank-app", "rb", buffering=0) as held:  # noqa: PTH123 - a program that holds it open
        before = held.read(4096)
        since = time.time()
        environment.run("dmsetup remove --force tank-app", check=False)
        environment.screen.say(
            "The device is in use, so dmsetup leaves it there, with a table that fails every read and write."
        )

        def holds() -> bool:
            os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            held.seek(0)
            try:
                return held.read(4096) == before and is_live("tank-app", "thin")
            except OSError:  # the error target's answer
                return False

        outcome.checked = "dmsetup: a thin again; the open file reads what it read before"
        environment.see_healed("tank/app", since, holds, outcome)


def rebooted(environment: Environment, outcome: Outcome) -> None:
    """The host reboots: no device is left, no loop, no process"""
    environment.screen.say(f"a file on tank-scratch has the checksum {environment.digest}")
    environment.run(f"umount {MOUNTED}")
    environment.screen.command(f"kill -9 {environment.daemon.pid}  (the daemon)")
    environment.daemon.kill()
    environment.screen.command("dmsetup remove ...; losetup --detach-all")
    for name in devices():
        shell(f"dmsetup remove --retry {name}")
    shell("losetup --detach-all")
    until(lambda: not loops(), "all loops are gone")
    environment.run("dmsetup ls")
    since = time.time()
    environment.screen.command(environment.daemon.command)
    environment.daemon.start()
    count = environment.daemon.count()
    with environment.screen.waiting("loops, pools, devices"):
        until(lambda: environment.daemon.all_ready(count), "everything is as declared again")
    outcome.seconds = time.time() - since
    outcome.reason = _tell_found(environment, since)
    environment.screen.healed(outcome.seconds, "after the daemon was started")
    environment.run(f"mount /dev/mapper/tank-scratch {MOUNTED}")
    after = digest(MOUNTED / "letters")
    outcome.checked = f"the file has its checksum {after}"
    if after != environment.digest:
        raise NotSo(f"the file had the checksum {environment.digest}, now it has {after}")
    environment.screen.checked(outcome.checked)
    outcome.held = True


def vanished(environment: Environment, outcome: Outcome) -> None:
    """A thin id is deleted behind its back, and its record is set to Absent only then"""
    number = environment.daemon.status("tank/archive")["deviceId"]
    since = time.time()
    environment.run(f"dmsetup message tank 0 'delete {number}'")
    environment.edit("archive", "state: Inactive", "state: Absent")
    outcome.checked = f"thin id {number} is not in the pool; no error, and nothing is left to do"

    def settled() -> bool:
        status = environment.daemon.status("tank/archive")
        return bool(status.get("ready")) and status.get("live") == "Absent"

    until(settled, "the deleted device is absent, and that is what its record says")
    outcome.reason = _tell_found(environment, since, "tank/archive")
    failed = environment.daemon.events(since, "tank/archive", "Failed")
    if failed:
        raise NotSo(f"it was to go on, but said: {failed[0]['message']}")
    if has_thin_id("tank", number):
        raise NotSo(f"thin id {number} is still in the pool")
    outcome.seconds = time.time() - since
    environment.screen.healed(outcome.seconds)
    environment.screen.checked(outcome.checked)
    outcome.held = True


def edited(environment: Environment, outcome: Outcome) -> None:
    """Somebody edits a manifest: twice the size for a mounted filesystem, and a snapshot of it"""
    before = _size()
    since = time.time()
    file = environment.edit("scratch", "size: 256MiB", "size: 512MiB")
    environment.add(file, COPY)
    with environment.screen.waiting("the daemon carries it out"):
        until(lambda: environment.daemon.status("tank/copy").get("ready"), "the snapshot is made")
        until(lambda: environment.daemon.status("tank/scratch").get("sizeBytes") == 512 << 20, "the device has grown")
        until(lambda: _size() > 1.8 * before, "the mounted filesystem has grown")
    outcome.seconds = time.time() - since
    outcome.reason = _tell_found(environment, since)
    environment.screen.healed(outcome.seconds, "after the edit")
    environment.run(f"df --human-readable --output=size,used,target {MOUNTED}")
    shell("mkdir -p /mnt/copy")
    environment.run("mount -o ro,noload /dev/mapper/tank-copy /mnt/copy")
    copied = digest(MOUNTED.with_name("copy") / "letters")
    if copied != environment.digest:
        raise NotSo(f"the file has the checksum {environment.digest}, in the snapshot it has {copied}")
    outcome.checked = "df: the mounted filesystem has twice the size; the file is in the snapshot, whole"
    environment.screen.checked(outcome.checked)
    outcome.held = True


def _tell_found(environment: Environment, since: float, name: str = "") -> str:
    """Show what the daemon has found since then; its reasons, each once."""
    found = environment.daemon.events(since, name, "Found")
    for event in found:
        environment.screen.found(event["reason"], event["message"])
    return ", ".join(dict.fromkeys(event["reason"] for event in found))


def _size() -> int:
    """Bytes of the mounted filesystem."""
    shown = os.statvfs(MOUNTED)
    return shown.f_blocks * shown.f_frsize


SCENES: Final[tuple[tuple[str, Scene], ...]] = (
    ("an active device removed", removed),
    ("a device left suspended", suspended),
    ("a committed device activated", committed),
    ("a table replaced by `error`, device open", replaced),
    ("a reboot", rebooted),
    ("a thin id deleted behind its back", vanished),
    ("a manifest edited: growth, snapshot", edited),
)

"""What the world does to devices. Each scene breaks one thing with ordinary tools, and sees it healed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Final

from demo.daemon import NotSo, until
from demo.kernel import devices, digest, has_thin_id, is_live, loops, shell, table
from demo.screen import Outcome
from demo.stage import MOUNTED, Stage

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
Scene = Callable[[Stage, Outcome], None]


def removed(stage: Stage, outcome: Outcome) -> None:
    """Somebody removes a device that is to be active"""
    since = time.time()
    stage.run("dmsetup remove tank-app")
    outcome.checked = "dmsetup: tank-app is live, on its thin id"
    wanted = stage.daemon.status("tank/app")["deviceId"]
    stage.see_healed("tank/app", since, lambda: table("tank-app").endswith(f" {wanted}"), outcome)


def suspended(stage: Stage, outcome: Outcome) -> None:
    """A backup script dies between suspend and resume, and fdisk hangs for everybody"""
    since = time.time()
    stage.run("dmsetup suspend vault-ledger")
    stage.screen.command("fdisk -l &")
    reader = subprocess.Popen(["fdisk", "-l"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    if reader.poll() is not None:
        raise NotSo(f"fdisk was to hang on the suspended device, but ended with {reader.returncode}")
    stage.screen.answer("hangs: it waits for the suspended device, and not even kill -9 would end it")

    def holds() -> bool:
        return reader.poll() == 0 and is_live("vault-ledger", "thin")

    outcome.checked = "dmsetup: live; the hanging fdisk went on and ended with 0"
    stage.see_healed("vault/ledger", since, holds, outcome)


def committed(stage: Stage, outcome: Outcome) -> None:
    """A golden image that nobody may write is activated by hand"""
    base = stage.daemon.status("tank/base")
    sectors = base["sizeBytes"] // 512
    since = time.time()
    stage.run(f"dmsetup create tank-base --table '0 {sectors} thin /dev/mapper/tank {base['deviceId']}'")
    outcome.checked = "dmsetup: no device tank-base; its data is kept"
    stage.see_healed("tank/base", since, lambda: not table("tank-base"), outcome)


def replaced(stage: Stage, outcome: Outcome) -> None:
    """Somebody forces a device away under a program that has it open, and leaves an error table"""
    with open("/dev/mapper/tank-app", "rb", buffering=0) as held:  # noqa: PTH123 - a program that holds it open
        before = held.read(4096)
        since = time.time()
        stage.run("dmsetup remove --force tank-app", check=False)
        stage.screen.say(
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
        stage.see_healed("tank/app", since, holds, outcome)


def rebooted(stage: Stage, outcome: Outcome) -> None:
    """The host reboots: no device is left, no loop, no process"""
    stage.screen.say(f"a file on tank-scratch has the checksum {stage.digest}")
    stage.run(f"umount {MOUNTED}")
    stage.screen.command(f"kill -9 {stage.daemon.pid}  (the daemon)")
    stage.daemon.kill()
    stage.screen.command("dmsetup remove ...; losetup --detach-all")
    for name in devices():
        shell(f"dmsetup remove --retry {name}")
    shell("losetup --detach-all")
    until(lambda: not loops(), "all loops are gone")
    stage.run("dmsetup ls")
    since = time.time()
    stage.screen.command(stage.daemon.command)
    stage.daemon.start()
    count = stage.daemon.count()
    with stage.screen.waiting("loops, pools, devices"):
        until(lambda: stage.daemon.all_ready(count), "everything is as declared again")
    outcome.seconds = time.time() - since
    outcome.reason = _tell_found(stage, since)
    stage.screen.healed(outcome.seconds, "after the daemon was started")
    stage.run(f"mount /dev/mapper/tank-scratch {MOUNTED}")
    after = digest(MOUNTED / "letters")
    outcome.checked = f"the file has its checksum {after}"
    if after != stage.digest:
        raise NotSo(f"the file had the checksum {stage.digest}, now it has {after}")
    stage.screen.checked(outcome.checked)
    outcome.held = True


def vanished(stage: Stage, outcome: Outcome) -> None:
    """A thin id is deleted behind its back, and its record is set to Absent only then"""
    number = stage.daemon.status("tank/archive")["deviceId"]
    since = time.time()
    stage.run(f"dmsetup message tank 0 'delete {number}'")
    stage.edit("archive", "state: Inactive", "state: Absent")
    outcome.checked = f"thin id {number} is not in the pool; no error, and nothing is left to do"

    def settled() -> bool:
        status = stage.daemon.status("tank/archive")
        return bool(status.get("ready")) and status.get("live") == "Absent"

    until(settled, "the deleted device is absent, and that is what its record says")
    outcome.reason = _tell_found(stage, since, "tank/archive")
    failed = stage.daemon.events(since, "tank/archive", "Failed")
    if failed:
        raise NotSo(f"it was to go on, but said: {failed[0]['message']}")
    if has_thin_id("tank", number):
        raise NotSo(f"thin id {number} is still in the pool")
    outcome.seconds = time.time() - since
    stage.screen.healed(outcome.seconds)
    stage.screen.checked(outcome.checked)
    outcome.held = True


def edited(stage: Stage, outcome: Outcome) -> None:
    """Somebody edits a manifest: twice the size for a mounted filesystem, and a snapshot of it"""
    before = _size()
    since = time.time()
    file = stage.edit("scratch", "size: 256MiB", "size: 512MiB")
    stage.add(file, COPY)
    with stage.screen.waiting("the daemon carries it out"):
        until(lambda: stage.daemon.status("tank/copy").get("ready"), "the snapshot is made")
        until(lambda: stage.daemon.status("tank/scratch").get("sizeBytes") == 512 << 20, "the device has grown")
        until(lambda: _size() > 1.8 * before, "the mounted filesystem has grown")
    outcome.seconds = time.time() - since
    outcome.reason = _tell_found(stage, since)
    stage.screen.healed(outcome.seconds, "after the edit")
    stage.run(f"df --human-readable --output=size,used,target {MOUNTED}")
    shell("mkdir -p /mnt/copy")
    stage.run("mount -o ro,noload /dev/mapper/tank-copy /mnt/copy")
    copied = digest(MOUNTED.with_name("copy") / "letters")
    if copied != stage.digest:
        raise NotSo(f"the file has the checksum {stage.digest}, in the snapshot it has {copied}")
    outcome.checked = "df: the mounted filesystem has twice the size; the file is in the snapshot, whole"
    stage.screen.checked(outcome.checked)
    outcome.held = True


def _tell_found(stage: Stage, since: float, name: str = "") -> str:
    """Show what the daemon has found since then; its reasons, each once."""
    found = stage.daemon.events(since, name, "Found")
    for event in found:
        stage.screen.found(event["reason"], event["message"])
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

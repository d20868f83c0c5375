"""The sandbox with its real kernel. Each test boots one, or few: that is what takes the time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import random
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

EVERYTHING = """
import hashlib, json, os, pathlib, subprocess, sys
def sh(line):
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    return [done.returncode, done.stdout + done.stderr]
given = sys.stdin.buffer.read()
share = pathlib.Path(sys.argv[1])
(share / "from-inside").write_text("here")
found = {
    "cwd": os.getcwd(), "user": os.geteuid(), "host": os.uname().nodename, "mark": os.environ["MARK"],
    "given": hashlib.sha256(given).hexdigest(),
    "etc": sh("touch /etc/dm-reconciler-test"), "project": sh("touch reconciler/test"),
    "scratch": sh("touch /srv/dm-reconciler-test /run/x /mnt/x /tmp/x /var/tmp/x ~/x && mkdir -p /var/lib/dm-reconciler/x"),
    "pool": sh("truncate -s 64M /tmp/data && truncate -s 4M /tmp/meta && "
        "dmsetup create pool --table \\"0 131072 thin-pool $(losetup -f --show /tmp/meta) "
        "$(losetup -f --show /tmp/data) 128 0\\" && dmsetup message pool 0 'create_thin 0' && "
        "dmsetup create thin --table '0 65536 thin /dev/mapper/pool 0' && test -L /dev/mapper/thin && "
        "mkfs.ext4 -q /dev/mapper/thin && mount /dev/mapper/thin /mnt && cp /etc/hostname /mnt && umount /mnt && "
        "test -L /dev/disk/by-id/dm-name-thin"),
    "suspended": sh("echo 1 > /dev/mapper/thin; dmsetup suspend thin"),
    "lo": sh("cat /sys/class/net/lo/flags"),
    "tools": sh("thin_check --version && dmsetup version && losetup -a"),
}
print(json.dumps(found))
print("to standard error", file=sys.stderr)
sys.exit(7)
"""


def test_a_command_inside(sandboxes: Any, tmp_path: Path) -> None:
    given = random.Random(1).randbytes(200_000)
    arguments = ("--share", str(tmp_path), "--", sys.executable, "-c", EVERYTHING, str(tmp_path))
    status, output, errors = sandboxes.run(*arguments, given=given, environment={"MARK": "a b\nc"})
    assert (status, errors) == (7, b"to standard error\n"), output
    found = json.loads(output)
    assert found["cwd"] == str(Path(__file__).parents[3])
    assert (found["user"], found["host"], found["mark"]) == (0, "sandbox", "a b\nc")
    assert found["given"] == hashlib.sha256(given).hexdigest()
    assert "Read-only file system" in found["etc"][1]
    assert "Read-only file system" in found["project"][1]
    assert found["scratch"] == [0, ""]
    assert not Path("/srv/dm-reconciler-test").exists()
    assert (tmp_path / "from-inside").read_text() == "here"
    assert (tmp_path / "from-inside").stat().st_uid == os.getuid()
    assert found["pool"] == [0, ""]
    assert found["suspended"][0] == 0, found
    assert int(found["lo"][1], 16) & 1
    assert found["tools"][0] == 0


def test_killed_by_a_signal_and_binary_output(sandboxes: Any) -> None:
    script = (
        "import os, sys; sys.stdout.buffer.write(bytes(range(256)) * 4000); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    )
    status, output, errors = sandboxes.run("--no-udev", "--", sys.executable, "-c", script)
    assert (status, errors) == (137, b"")
    assert output == bytes(range(256)) * 4000


def test_a_reader_that_goes_away(sandboxes: Any) -> None:
    process = sandboxes.start("--no-udev", "--", "yes")
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait() == 128 + signal.SIGPIPE


def test_interrupts(sandboxes: Any) -> None:
    """The first goes to the command, the second ends all."""
    process = sandboxes.start("--no-udev", "--", "sh", "-c", "trap 'echo caught' INT; echo up; while :; do :; done")
    assert process.stdout.readline() == b"up\n"
    traces = sandboxes.traces(process)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"caught\n"
    process.send_signal(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert not [path for path in traces if path.exists()]


@pytest.mark.parametrize("victim", ["wrapper", "warden"])
def test_nothing_survives_a_kill(sandboxes: Any, victim: str) -> None:
    process = sandboxes.start("--no-udev", "--", "sh", "-c", "echo up; while :; do :; done")
    assert process.stdout.readline() == b"up\n"
    traces = sandboxes.traces(process)
    if victim == "wrapper":
        process.kill()
    else:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
    assert process.wait() == (-signal.SIGKILL if victim == "wrapper" else 1)
    sandboxes.until(lambda: not [path for path in traces if path.exists()])


def test_a_command_that_is_not_there_and_time_that_is_up(sandboxes: Any) -> None:
    status, _, errors = sandboxes.run("--no-udev", "--", "/no/such/command")
    assert (status, errors) == (127, b"/no/such/command: No such file or directory\n")
    status, _, errors = sandboxes.run("--timeout", "0.2", "--", "true")
    assert (status, errors) == (124, b"sandbox: not done after 0.2 s, so it was killed: give more time\n")


def test_a_panic_is_told(sandboxes: Any) -> None:
    status, _, errors = sandboxes.run("--no-udev", "--", "sh", "-c", "echo c > /proc/sysrq-trigger")
    assert status == 1
    assert b"kernel ended before the command did: Kernel panic - not syncing: sysrq triggered crash" in errors
    assert errors.count(b"\n") == 1


def test_disks_keep_what_was_synced(sandboxes: Any, tmp_path: Path) -> None:
    """SIGTERM is a power cut: at its end the kernel is gone, and the disk can be given to the next."""
    disk = tmp_path / "a disk, with blanks"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    write = "mkfs.ext4 -q /dev/ubda && mount /dev/ubda /mnt && echo kept > /mnt/a && sync && echo lost > /mnt/b; echo up; cat"
    process = sandboxes.start("--no-udev", "--disk", str(disk), "--", "sh", "-c", write)
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    look = "mount /dev/ubda /mnt && cat /mnt/a && test ! -s /mnt/b"
    assert sandboxes.run("--no-udev", "--disk", str(disk), "--", "sh", "-c", look)[:2] == (0, b"kept\n")


@pytest.mark.parametrize("mode", ["shim", "seccomp"])
def test_workarounds_boot(sandboxes: Any, mode: str) -> None:
    if mode == "shim" and not shutil.which("cc"):
        pytest.skip("NOT TESTED: no C compiler; apt-get install gcc")
    script = "import ctypes, hashlib; print(hashlib.sha256(b'1' * 10000).hexdigest())"
    status, output, errors = sandboxes.run(
        "--", "/usr/bin/python3", "-c", script, environment={"DM_RECONCILER_SANDBOX_XSAVE": mode}
    )
    assert (status, errors) == (0, b"")
    assert output.decode().strip() == hashlib.sha256(b"1" * 10000).hexdigest()


def test_a_terminal(sandboxes: Any) -> None:
    """Keys, Ctrl-C, the window's size and its changes; and the terminal is left as it was."""
    outer, inner = pty.openpty()
    _resize(outer, 33, 101)
    before = termios.tcgetattr(inner)
    command = [sys.executable, "-m", "reconciler.sandbox", "--no-udev", "--", "bash", "--norc"]
    environment = os.environ | {"PS1": "ready> ", "TERM": "dumb"}
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        command, stdin=inner, stdout=inner, stderr=inner, cwd=root, env=environment, start_new_session=True
    )
    sandboxes.started.append(process)
    # A process that is there before the size is printed and until the key has come: one started in between would miss it.
    job = rb"""sh -c 'trap "exit 4" INT; stty size; while :; do :; done'; echo status $?""" + b"\r"
    for expected, then in (
        (b"ready> ", lambda: os.write(outer, job)),
        (b"33 101\r\n", lambda: os.write(outer, b"\x03")),
        (b"status 4\r\n", lambda: _resize(outer, 44, 122)),
        (b"", lambda: os.kill(process.pid, signal.SIGWINCH)),  # not its controlling terminal, so nobody else says it
        (b"", lambda: os.write(outer, b"until [ \"$(stty size)\" = '44 122' ]; do :; done; exit 5\r")),
    ):
        _expect(outer, expected)
        then()
    assert process.wait() == 5
    assert termios.tcgetattr(inner) == before
    os.close(outer)
    os.close(inner)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _expect(terminal: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user anyway")
def test_as_an_ordinary_user(sandboxes: Any) -> None:
    """From a copy in a directory that the empty /tmp hides, with a blank in its name."""
    del sandboxes  # skips without a kernel
    python = shutil.which("python3", path="/usr/bin")
    if (
        not python
        or subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode
    ):
        pytest.skip("NOT TESTED: no /usr/bin/python3 >= 3.11, and an ordinary user may not be able to read this one")
    daemon = Path("/tmp") / f"dm-reconciler test {os.getpid()}"
    try:
        shutil.copytree(Path(__file__).parents[3] / "reconciler", daemon / "reconciler")
        (daemon / "shared").mkdir()
        shutil.chown(daemon / "shared", "nobody")
        done = subprocess.run(
            [
                *(python, "-m", "reconciler.sandbox", "--share", "shared", "--"),
                *("sh", "-c", "id -u; pwd; dmsetup targets | grep -c thin; echo x > shared/file; echo x > file"),
            ],
            cwd=daemon,
            user="nobody",
            group="nogroup",
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == f"0\n{daemon}\n2\n"
        assert "Read-only file system" in done.stderr
        assert (daemon / "shared" / "file").owner() == "nobody"
    finally:
        shutil.rmtree(daemon)

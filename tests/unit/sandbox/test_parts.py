"""The sandbox's parts that need no kernel."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from reconciler.sandbox import SandboxError, kernel, wire
from reconciler.sandbox.command import run
from reconciler.sandbox.kernel import XSTATE_SOURCE, XSTATE_SWITCH, XstateWorkaround, xstate_workaround
from reconciler.sandbox.session import HOME, Escape, environment, visible
from reconciler.sandbox.settings import checked, memory_bytes

WIRES = kernel.Wires(line_in=5, line_out=8, console=10)


class Room(NamedTuple):
    """What is used of statvfs."""

    f_flag: int = 0
    f_bavail: int = 1 << 20
    f_frsize: int = 4096


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_frames_survive_any_cut(cut: int) -> None:
    sent = [(wire.OUTPUT, bytes(range(256))), (wire.INPUT, b""), (wire.EXIT, wire.COUNT.pack(7))]
    stream = b"".join(wire.frame(kind, payload) for kind, payload in sent)
    decoder = wire.Decoder()
    parts = (stream[at : at + cut] for at in range(0, len(stream), cut))
    assert [frame for part in parts for frame in decoder.feed(part)] == sent


def test_command_line() -> None:
    line = kernel.command_line("/k", Path("/dev/shm/x"), 1 << 30, 2, WIRES, {"GODEBUG": "cpu.avx=off"})
    assert line[0] == "/k"
    assert {"mem=1048576K", "ro", "rootfstype=hostfs", "uml_dir=/dev/shm/x"} < set(line)
    assert {"ssl0=fd:5,fd:8", "con0=null,fd:10", "GODEBUG=cpu.avx=off"} < set(line)
    assert {"ubd0d=/dev/shm/x/disk0", "ubd1d=/dev/shm/x/disk1"} < set(line)
    assert f"init={os.path.realpath(sys.executable)}" in line
    assert line[-3:-1] == ["--", "-IS"]
    assert line[-1].endswith("inside/init.py")


def test_paths_with_blanks_are_quoted_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my tools/python3")
    assert 'init="/my tools/python3"' in kernel.command_line("/k", Path("/t"), 1 << 30, 0, WIRES, {})
    monkeypatch.setattr(sys, "executable", '/my "tools/python3')
    with pytest.raises(SandboxError, match="has a quote in it"):
        kernel.command_line("/k", Path("/t"), 1 << 30, 0, WIRES, {})


def test_no_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match=r"linux\.uml not found.*apt-get install user-mode-linux") as raised:
        run(["true"], udev=False)
    assert raised.value.status == 1
    assert "\n" not in str(raised.value)


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(SandboxError, match="x86-64 only, this is aarch64"):
        kernel.find_kernel()


def test_no_udev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_UDEV", ())
    with pytest.raises(SandboxError, match="apt-get install udev"):
        kernel.find_udev()


@pytest.mark.parametrize(
    ("shm", "message"),
    [
        (Room(f_flag=os.ST_NOEXEC), "/dev/shm: mounted noexec"),
        (Room(f_bavail=1), "/dev/shm: 0 MiB free"),
    ],
)
def test_memory_goes_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shm: Room, message: str
) -> None:
    rooms = {"/dev/shm": shm, str(tmp_path): Room()}
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(os, "statvfs", lambda path: rooms[str(path)])
    assert kernel.memory_directory(1 << 30) == tmp_path
    rooms[str(tmp_path)] = Room(f_bavail=25600)
    with pytest.raises(SandboxError, match=f"no place for 1024 MiB.*{message}.*100 MiB free.*set TMPDIR"):
        kernel.memory_directory(1 << 30)


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("1G", 1 << 30), ("2 GiB", 2 << 30), ("1048576k", 1 << 30)]
)
def test_memory_sizes(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1", "G", "1X", "-1G", "64M"])
def test_wrong_memory_sizes(text: str) -> None:
    with pytest.raises(SandboxError, match=r"1G|128M") as refused:
        memory_bytes(text)
    assert refused.value.status == 2, "wrong usage"


def test_wrong_settings(tmp_path: Path) -> None:
    def settings(share: tuple[Path, ...] = (), disks: tuple[Path, ...] = (), timeout: float | None = None) -> None:
        checked(["true"], share=share, memory="1G", disks=disks, timeout=timeout, udev=False)

    with pytest.raises(SandboxError, match="no such directory"):
        settings(share=(tmp_path / "none",))
    with pytest.raises(SandboxError, match="cannot share /:"):
        settings(share=(Path("/"),))
    with pytest.raises(SandboxError, match="truncate"):
        settings(disks=(tmp_path / "none",))
    with pytest.raises(SandboxError, match="9 disks"):
        settings(disks=(tmp_path,) * 9)
    with pytest.raises(SandboxError, match="timeout"):
        settings(timeout=0)


def test_the_shell_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/dash")
    assert checked([], share=(), memory="1G", disks=(), timeout=None, udev=True).command == ("/bin/dash",)
    monkeypatch.delenv("SHELL")
    assert checked([], share=(), memory="1G", disks=(), timeout=None, udev=True).command == ("bash",)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/x:/usr/bin")
    monkeypatch.setenv("TMPDIR", "/somewhere")
    monkeypatch.setenv("DM_RECONCILER_STATE_DIR", "/s")
    found = environment("/here")
    assert found["PATH"].startswith("/opt/x:/usr/bin:/usr/local/sbin:/usr/sbin:")
    assert found["HOME"] == HOME
    assert found["PWD"] == "/here"
    assert found["DM_RECONCILER_STATE_DIR"] == "/s"
    assert "TMPDIR" not in found


def test_what_empty_directories_would_hide_stays_visible() -> None:
    assert "/tmp/here" in visible("/tmp/here", ())
    assert "/tmp/here" not in visible("/tmp/here", (Path("/tmp/here"),))
    assert "/tmp" not in visible("/tmp", ())
    assert "/etc" not in visible("/etc", ())


def test_the_escape_is_three_keys_within_a_second() -> None:
    escape = Escape()
    assert not escape.seen(b"\x1d\x1d", 10.0)
    assert escape.seen(b"\x1d", 10.9)
    assert not Escape().seen(b"\x1d\x1da\x1d", 1.0)
    slow = Escape()
    assert not slow.seen(b"\x1d", 1.0)
    assert not slow.seen(b"\x1d\x1d", 2.1)


def test_workaround_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(XSTATE_SWITCH, "none")
    assert xstate_workaround(tmp_path) == XstateWorkaround()
    monkeypatch.setenv(XSTATE_SWITCH, "seccomp")
    assert "-AVX2" in xstate_workaround(tmp_path).environment["GLIBC_TUNABLES"]
    monkeypatch.setenv(XSTATE_SWITCH, "other")
    with pytest.raises(SandboxError, match="set it to shim, seccomp or none"):
        xstate_workaround(tmp_path)


def test_without_a_compiler_amx_hosts_get_the_filter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(XSTATE_SWITCH, raising=False)
    monkeypatch.setattr(kernel, "_has_amx", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert xstate_workaround(tmp_path).seccomp
    monkeypatch.setenv(XSTATE_SWITCH, "shim")
    with pytest.raises(SandboxError, match="there is no C compiler; install gcc"):
        xstate_workaround(tmp_path)


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_shim_compiles_without_a_warning(tmp_path: Path) -> None:
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(tmp_path / "shim.so")]
    subprocess.run([*command, str(XSTATE_SOURCE)], check=True)


def test_importing_it_loads_nothing_of_the_others() -> None:
    code = "import sys, reconciler.sandbox.__main__, reconciler.sandbox.session; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("reconciler.")}
    assert ours == {"sandbox"}
    assert not {"click", "pydantic", "yaml"} & set(loaded)

"""One process has the state directory, and the next one is told which."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.store.errors import StoreError
from reconciler.store.lock import LockHeld, StateLock

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

HOLD = """
import sys, time
from pathlib import Path
from reconciler.store.lock import StateLock
with StateLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_the_first_is(directory: Path) -> None:
    with holder(directory) as first:
        with pytest.raises(LockHeld) as held:
            StateLock(directory).acquire()
        assert held.value.pid == first.pid
        assert str(directory) in held.value.command
        assert abs(held.value.since - time.time()) < 60
        assert f"process {first.pid}" in str(held.value)
        assert "\n" not in str(held.value)
        first.communicate("")
    with StateLock(directory):
        pass


def test_who_has_it_is_told_without_taking_it(directory: Path) -> None:
    assert StateLock(directory).holder() is None
    assert not directory.exists()
    with holder(directory) as first:
        held = StateLock(directory).holder()
        assert held is not None
        assert held.pid == first.pid
        first.communicate("")
    assert StateLock(directory).holder() is None


def test_two_of_one_process_exclude_each_other(directory: Path) -> None:
    with StateLock(directory), pytest.raises(LockHeld) as held:
        StateLock(directory).acquire()
    assert held.value.pid == os.getpid()


def test_it_can_be_taken_and_given_back_twice(directory: Path) -> None:
    lock = StateLock(directory)
    assert not directory.exists()
    lock.acquire()
    lock.announce("http://127.0.0.1:9723")
    lock.acquire()
    held = StateLock(directory).holder()
    assert held is not None
    assert held.url == "http://127.0.0.1:9723"
    lock.release()
    lock.release()
    with lock:
        pass


@pytest.mark.parametrize("content", [b"", b"garbled", b"[]", b'{"pid": null, "command": ""}', b"\xff"])
def test_a_holder_who_did_not_sign_is_told_as_unknown(directory: Path, content: bytes) -> None:
    with StateLock(directory):
        (directory / "lock").write_bytes(content)
        with pytest.raises(LockHeld, match="another process") as held:
            StateLock(directory).acquire()
    assert held.value.pid == 0


def test_a_directory_that_others_may_write_to_is_refused(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(StoreError, match=f"{directory}: others may write it .mode 0777.: run `chmod go-w {directory}`"):
        StateLock(directory).acquire()


@pytest.mark.security("S38")
def test_a_directory_in_one_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StoreError, match=f"others could put another in its place: .* `chmod go-w {tmp_path}/open`"):
        StateLock(tmp_path / "open/state").acquire()
    (tmp_path / "open").chmod(0o1777)
    with StateLock(tmp_path / "open/state"):
        pass


@pytest.mark.security("S38")
@as_root
def test_a_directory_in_one_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 65534, -1)
    with pytest.raises(
        StoreError, match=f"others could put another in its place: {tmp_path}/theirs: owned by uid 65534"
    ):
        StateLock(tmp_path / "theirs/state").acquire()


@pytest.mark.security("S38")
def test_a_directory_behind_a_link_that_others_could_replace_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/link").symlink_to(directory)
    directory.mkdir(mode=0o700)
    with pytest.raises(StoreError, match=f"others could put another in its place: .* `chmod go-w {tmp_path}/open`"):
        StateLock(tmp_path / "open/link").acquire()


@pytest.mark.security("S40")
def test_a_lock_that_is_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="lock"):
        StateLock(directory).acquire()
    assert not (tmp_path / "elsewhere").exists()

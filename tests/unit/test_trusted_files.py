"""What others may write is not believed, and what they could open is not locked with."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.trusted_files import FileLock, LockTaken, folders_to, untrusted, untrusted_way

OTHER_USER = 4711
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.touch(0o600)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o755])
def test_what_only_its_owner_may_write_is_trusted(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert untrusted(file) is None


@pytest.mark.parametrize("mode", [0o664, 0o602, 0o666])
def test_what_others_may_write_is_not(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert untrusted(file) == f"others may write it (mode {mode:04o}): run `chmod go-w {file}`"


def test_a_directory_that_others_may_write_is_not_even_with_a_sticky_bit(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert untrusted(tmp_path) == f"others may write it (mode 1777): run `chmod go-w {tmp_path}`"


@pytest.mark.security("S24")
@as_root
def test_what_belongs_to_somebody_else_is_not(file: Path) -> None:
    os.chown(file, OTHER_USER, 0)
    assert untrusted(file) == (
        f"owned by uid {OTHER_USER}, neither root nor the daemon's user: run `chown root {file}`"
    )


def test_what_belongs_to_the_daemons_user_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert untrusted(file) is None


@as_root
def test_of_what_is_ours_it_is_said_who_could_read_it_as_well(file: Path) -> None:
    os.chown(file, OTHER_USER, 0)
    assert untrusted(file, ours=True) == (
        f"owned by uid {OTHER_USER}, neither root nor the user that runs this: run as that user, or `chown root {file}`"
    )


@pytest.mark.security("S26")
def test_on_a_read_only_mount_the_mode_says_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a manifest. What is ours was written before the mount was read-only."""
    file.chmod(0o666)
    fields = list(os.statvfs(file))
    fields[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert untrusted(file) is None
    assert untrusted(file, ours=True) == f"others may write it (mode 0666): run `chmod go-w {file}`"


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "a b;c.yaml"
    path.touch()
    path.chmod(0o666)
    assert untrusted(path) == f"others may write it (mode 0666): run `chmod go-w '{path}'`"


def test_an_open_file_is_what_is_looked_at(file: Path, tmp_path: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        file.rename(tmp_path / "moved")
        file.touch()
        file.chmod(0o666)
        assert untrusted(file, fd=fd) is None
    finally:
        os.close(fd)


def test_what_was_seen_already_is_what_is_looked_at(file: Path) -> None:
    seen = file.stat()
    file.unlink()
    assert untrusted(file, info=seen, ours=True) is None


def test_what_is_not_there_is_the_callers_business(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        untrusted(tmp_path / "missing")


# The way to it


@pytest.mark.security("S25")
def test_every_directory_on_the_way_is_looked_at_those_that_links_lead_through_too(tmp_path: Path) -> None:
    for name in ("here", "there/deep", "away"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "here/link").symlink_to("../there/deep/second")
    (tmp_path / "there/deep/second").symlink_to(tmp_path / "away")
    way = list(folders_to(tmp_path / "here/link/manifests"))
    assert [str(folder.relative_to(tmp_path)) for folder in dict.fromkeys(way) if folder.is_relative_to(tmp_path)] == [
        ".",
        "here",
        "there",
        "there/deep",
        "away",
    ]
    assert way[0] == Path("/")


def test_a_way_in_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        list(folders_to(tmp_path / "a/x"))


def test_a_directory_above_that_others_may_write_is_no_way(tmp_path: Path) -> None:
    """Whoever may write there can put another directory of root's in the place of the one that is named."""
    (tmp_path / "open/mine").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    said = f"{tmp_path}/open: others may write it (mode 0777): run `chmod go-w {tmp_path}/open`"
    assert untrusted_way(tmp_path / "open/mine") == said
    (tmp_path / "link").symlink_to("open/mine")
    assert untrusted_way(tmp_path / "link") == said


def test_in_a_sticky_directory_of_roots_nobody_replaces_what_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp/mine").mkdir(parents=True)
    (tmp_path / "tmp").chmod(0o1777)
    really = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **more: as_roots(really(path, **more)))
    assert untrusted_way(tmp_path / "tmp/mine") is None


@as_root
def test_in_ones_own_sticky_directory_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp/mine").mkdir(parents=True)
    (tmp_path / "tmp").chmod(0o1777)
    os.chown(tmp_path / "tmp", OTHER_USER, 0)
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)
    assert untrusted_way(tmp_path / "tmp/mine") is None


def as_roots(info: os.stat_result) -> os.stat_result:
    return os.stat_result((*info[:4], 0, *info[5:]))


@pytest.mark.security("S25")
@as_root
def test_a_link_of_another_user_in_a_sticky_directory_is_no_way(tmp_path: Path) -> None:
    """Both that it leads to are root's, and its owner chooses between them."""
    (tmp_path / "mine/deep").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    link = tmp_path / "tmp/link"
    link.symlink_to(tmp_path / "mine")
    assert untrusted_way(link) is None
    assert untrusted_way(link / "deep") is None
    os.lchown(link, OTHER_USER, 0)
    said = f"{link}: a symbolic link of uid {OTHER_USER}, who can change it: name what it leads to"
    assert untrusted_way(link) == said
    assert untrusted_way(link / "deep") == said


@as_root
def test_a_directory_above_of_another_user_is_no_way(tmp_path: Path) -> None:
    (tmp_path / "daemon/mine").mkdir(parents=True)
    os.chown(tmp_path / "daemon", OTHER_USER, 0)
    assert untrusted_way(tmp_path / "daemon/mine") == (
        f"{tmp_path}/daemon: owned by uid {OTHER_USER}, neither root nor the daemon's user: "
        f"run `chown root {tmp_path}/daemon`"
    )


@as_root
def test_a_sticky_directory_of_another_user_is_no_way(tmp_path: Path) -> None:
    """The bit does not keep its owner from replacing what is in it."""
    (tmp_path / "tmp/mine").mkdir(parents=True)
    (tmp_path / "tmp").chmod(0o1777)
    os.chown(tmp_path / "tmp", OTHER_USER, 0)
    said = untrusted_way(tmp_path / "tmp/mine")
    assert said is not None
    assert said.startswith(f"{tmp_path}/tmp: owned by uid {OTHER_USER}")


# Locks

HOLD = """
import sys
from pathlib import Path
from reconciler.trusted_files import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.take()
lock.sign("the first")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def held(path: Path) -> FileLock:
    lock = FileLock(path)
    lock.take()
    return lock


def is_free(path: Path) -> bool:
    return FileLock(path).holder() is None


def test_the_second_is_told_what_the_first_has_signed(path: Path) -> None:
    with holder(path) as first:
        with pytest.raises(LockTaken) as taken:
            FileLock(path).take()
        assert taken.value.signed == "the first"
        assert abs(taken.value.since - time.time()) < 60
        first.communicate("")
    held(path).release()


def test_a_killed_holder_holds_nothing(path: Path) -> None:
    with holder(path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        held(path).release()


def test_who_has_it_is_told_without_taking_it_or_making_it(path: Path) -> None:
    assert FileLock(path).holder() is None
    assert not path.exists()
    lock = held(path)
    lock.sign("here")
    found = FileLock(path).holder()
    assert found is not None
    assert found.signed == "here"
    lock.release()
    assert is_free(path)


def test_two_of_one_process_exclude_each_other(path: Path) -> None:
    lock = held(path)
    with pytest.raises(LockTaken):
        held(path)
    lock.release()


def test_it_can_be_taken_and_given_back_twice(path: Path) -> None:
    lock = FileLock(path)
    assert not lock.is_held
    lock.take()
    lock.take()
    assert lock.is_held
    lock.release()
    lock.release()
    assert not lock.is_held
    assert is_free(path)
    lock.take()
    assert not is_free(path)
    lock.release()


def test_who_waits_gets_it_once_it_is_given_back(path: Path) -> None:
    with holder(path) as first:
        assert first.stdin is not None
        first.stdin.close()
        lock = FileLock(path)
        lock.take(patience=60)
        assert lock.is_held
        lock.release()


def test_who_waits_is_refused_once_the_time_is_over(path: Path) -> None:
    lock = held(path)
    begun = time.monotonic()
    with pytest.raises(LockTaken):
        FileLock(path).take(patience=0.05)
    assert time.monotonic() - begun >= 0.05
    lock.release()


def test_programs_that_are_started_do_not_inherit_it(path: Path) -> None:
    lock = held(path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        lock.release()
        assert is_free(path)
        child.kill()


def test_signed_again_it_takes_as_much_room(path: Path) -> None:
    lock = held(path)
    path.write_bytes(b"x" * 5000)
    sizes = []
    for text in ("first", "a longer second one"):
        lock.sign(text)
        sizes.append(path.stat().st_size)
    assert sizes[0] == sizes[1]
    assert path.read_text().strip() == "a longer second one"
    lock.release()


def test_its_folder_is_made_and_is_its_owners_alone(tmp_path: Path) -> None:
    lock = held(tmp_path / "run/lock")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "run/lock").stat().st_mode) == 0o600
    lock.release()


@pytest.mark.security("S43")
def test_a_lock_that_others_could_open_is_closed_to_them(path: Path) -> None:
    path.touch()
    path.chmod(0o644)
    lock = held(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.release()


@pytest.mark.security("S43")
@as_root
def test_another_user_cannot_hold_a_lock(path: Path) -> None:
    held(path).release()
    path.parent.chmod(0o755)
    command = ["flock", "--shared", "--nonblock", str(path), "true"]
    assert subprocess.run(command, check=False).returncode == 0
    assert subprocess.run(command, check=False, user=65534, group=65534, stderr=subprocess.DEVNULL).returncode != 0


@pytest.mark.security("S40")
def test_a_lock_that_is_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    for ask in (FileLock(path).take, FileLock(path).holder):
        with pytest.raises(OSError, match="symbolic links"):
            ask()
    assert not (tmp_path / "elsewhere").exists()


def test_nobody_waits_for_a_fifo_in_its_place(path: Path) -> None:
    os.mkfifo(path)
    assert is_free(path)

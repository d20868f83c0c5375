"""What others may write is not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.trusted_files import folders_to, untrusted, untrusted_way

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


def test_on_a_read_only_mount_the_mode_says_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o666)
    fields = list(os.statvfs(file))
    fields[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert untrusted(file) is None


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


def test_what_is_not_there_is_the_callers_business(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        untrusted(tmp_path / "missing")


# The way to it


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


def as_roots(info: os.stat_result) -> os.stat_result:
    return os.stat_result((*info[:4], 0, *info[5:]))


@as_root
def test_a_directory_above_of_another_user_is_no_way(tmp_path: Path) -> None:
    (tmp_path / "home/mine").mkdir(parents=True)
    os.chown(tmp_path / "home", OTHER_USER, 0)
    assert untrusted_way(tmp_path / "home/mine") == (
        f"{tmp_path}/home: owned by uid {OTHER_USER}, neither root nor the daemon's user: "
        f"run `chown root {tmp_path}/home`"
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

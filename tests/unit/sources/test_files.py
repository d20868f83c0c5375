"""What manifest files are besides plain files, and that none of it blocks, misleads or is half read."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.sources.manifests import read
from reconciler.sources.manifests.read import Loaded, load
from tests.unit.sources.manifests import DEVICE, POOL

KEYS = [Key("tank"), Key("tank", "app")]


def keys(loaded: Loaded) -> list[Key]:
    assert [str(problem) for problem in loaded.problems] == []
    assert loaded.records is not None
    return [record.key for record in loaded.records]


def only(loaded: Loaded) -> str:
    """The one problem that there is."""
    assert loaded.records is None
    [problem] = loaded.problems
    return str(problem)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert only(load(missing)) == f"{missing}:1:1: no such file or directory: make it, or name another"


def test_a_directory_that_vanishes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.yaml").write_text(POOL)
    really = os.listdir

    def listing(fd: int) -> list[str]:
        names = really(fd)
        (folder / "a.yaml").unlink()
        folder.rmdir()
        return names

    monkeypatch.setattr(os, "listdir", listing)
    assert only(load(folder)) == f"{folder}:1:1: no such file or directory: make it, or name another"


def test_a_file_that_vanishes_between_listing_and_reading_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(POOL)
    really = os.listdir

    def listing(fd: int) -> list[str]:
        names = really(fd)
        (tmp_path / "b.yaml").unlink(missing_ok=True)
        return names

    (tmp_path / "b.yaml").write_text(DEVICE)
    monkeypatch.setattr(os, "listdir", listing)
    assert keys(load(tmp_path)) == [Key("tank")]


def test_a_file_that_never_holds_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POOL)
    really = os.read

    def reading(fd: int, count: int) -> bytes:
        content = really(fd, count)
        if content:
            path.write_text(path.read_text() + "# more\n")
        return content

    monkeypatch.setattr(os, "read", reading)
    assert only(load(tmp_path)) == (
        f"{path}:1:1: keeps changing while it is read: write elsewhere, then rename into place"
    )


def test_a_file_that_is_written_over_in_place_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its size stays: what was read may be half of each."""
    path = tmp_path / "a.yaml"
    path.write_text(POOL)
    really = os.read

    def reading(fd: int, count: int) -> bytes:
        content = really(fd, count)
        if b"tank" in content:
            path.write_text(POOL.replace("tank", "bank"))
            os.utime(path, ns=(0, 0))
        return content

    monkeypatch.setattr(os, "read", reading)
    assert keys(load(tmp_path)) == [Key("bank")]


def test_a_directory_with_a_manifests_name(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.mkdir()
    assert only(load(tmp_path)) == f"{path}:1:1: a directory, not a plain file: move it elsewhere, or rename it"


@pytest.mark.security("S22")
def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    os.mkfifo(path, 0o600)
    expected = f"{path}:1:1: a fifo, not a plain file: move it elsewhere, or rename it"
    assert (only(load(tmp_path)), only(load(path))) == (expected, expected)


@pytest.mark.security("S22")
def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("x.yaml")
        assert only(load(Path())) == "x.yaml:1:1: a socket, not a plain file: move it elsewhere, or rename it"


@pytest.mark.security("S22")
def test_a_device_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def opening(path: str | Path, flags: int, **more: int) -> int:
        assert Path(path).name != "zero"
        return really(path, flags, **more)

    monkeypatch.setattr(os, "open", opening)
    assert only(load(Path("/dev/zero"))) == (
        "/dev/zero:1:1: a device, not a plain file: move it elsewhere, or rename it"
    )


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.symlink_to("missing.yaml")
    assert only(load(tmp_path)) == (f"{path}:1:1: a symbolic link that leads nowhere: remove it, or put the file there")


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").symlink_to("y")
    (tmp_path / "y").symlink_to("x.yaml")
    assert "x.yaml:1:1: a symbolic link" in only(load(tmp_path))


@pytest.mark.security("S21")
def test_a_link_out_of_the_directory(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside.yaml").write_text(POOL)
    (folder / "x.yaml").symlink_to("../outside.yaml")
    assert only(load(folder)) == (
        f"{folder}/x.yaml:1:1: a symbolic link that leads out of the directory: put the file itself here"
    )


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.touch()
    really = os.open

    def opening(name: str | Path, flags: int, **more: int) -> int:
        if name == "a.yaml":
            raise PermissionError(13, "Permission denied")
        return really(name, flags, **more)

    monkeypatch.setattr(os, "open", opening)  # root may read everything
    assert only(load(tmp_path)) == (
        f"{path}:1:1: cannot be read, permission denied: make it readable to the daemon's user"
    )


def test_a_disk_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POOL)

    def reading(_fd: int, _count: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", reading)
    assert only(load(tmp_path)) == f"{path}:1:1: cannot be read: Input/output error"


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.yaml").touch()
    assert only(load(tmp_path)) == f"{tmp_path}:1:1: more than 2 manifests: put several records into a file"


@pytest.mark.security("S20")
def test_too_much_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_TOTAL", 3072)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text("#" * 2048)
    assert only(load(tmp_path)) == (
        f"{tmp_path}:1:1: manifests of more than 3KiB in all: no set of records is that large"
    )


@pytest.mark.security("S20")
def test_too_many_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_RECORDS", 2)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(f"{POOL}---\n{DEVICE}")
    assert only(load(tmp_path)) == f"{tmp_path}/b.yaml:1:1: more than 2 records by now: no host has so many"


@pytest.mark.security("S24")
def test_a_file_that_others_may_write(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POOL)
    path.chmod(0o664)
    assert only(load(tmp_path)) == f"{path}:1:1: others may write it (mode 0664): run `chmod go-w {path}`"
    assert keys(load(tmp_path, trust=False)) == [Key("tank")]


@pytest.mark.security("S24")
def test_a_directory_that_others_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert only(load(tmp_path)) == f"{tmp_path}:1:1: others may write it (mode 0777): run `chmod go-w {tmp_path}`"


@pytest.mark.security("S25")
def test_a_directory_in_one_that_others_may_write(tmp_path: Path) -> None:
    above = tmp_path / "above"
    (above / "manifests").mkdir(parents=True)
    (above / "manifests/a.yaml").write_text(POOL)
    above.chmod(0o777)
    said = f"{above}/manifests:1:1: {above}: others may write it (mode 0777): run `chmod go-w {above}`"
    assert only(load(above / "manifests")) == said
    assert only(load(above / "manifests/a.yaml")) == said.replace("manifests:", "manifests/a.yaml:")
    assert keys(load(above / "manifests", trust=False)) == [Key("tank")]


@pytest.mark.security("S21")
def test_a_link_that_leads_out_of_the_directory_and_back(tmp_path: Path) -> None:
    """Whoever has the second link chooses which file it is."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "old.yml.kept").write_text(POOL)
    (elsewhere / "link").symlink_to(folder / "old.yml.kept")
    (folder / "x.yaml").symlink_to("../elsewhere/link")
    assert only(load(folder)) == (
        f"{folder}/x.yaml:1:1: a symbolic link that leads out of the directory: put the file itself here"
    )


def test_an_absolute_link_within_the_directory(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(POOL)
    (tmp_path / "x.yaml").symlink_to(tmp_path / "real")
    assert keys(load(tmp_path)) == [Key("tank")]


def swap_at_the_opening(monkeypatch: pytest.MonkeyPatch, swap: Callable[[], object]) -> None:
    """Of a.yaml: what was looked at is not what is opened."""
    really = os.open

    def opening(path: str | Path, flags: int, **more: int) -> int:
        if path == "a.yaml":
            swap()
        return really(path, flags, **more)

    monkeypatch.setattr(os, "open", opening)


@pytest.mark.security("S27")
def test_a_link_that_takes_the_place_of_a_file_between_look_and_opening_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.yaml").write_text(POOL)
    (tmp_path / "outside").write_text(POOL.replace("tank", "evil"))

    def swap() -> None:
        (folder / "a.yaml").unlink()
        (folder / "a.yaml").symlink_to("../outside")

    swap_at_the_opening(monkeypatch, swap)
    assert only(load(folder)) == (
        f"{folder}/a.yaml:1:1: a symbolic link that leads out of the directory: put the file itself here"
    )


def test_a_fifo_that_takes_the_place_of_a_file_between_look_and_opening_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(POOL)

    def swap() -> None:
        (tmp_path / "a.yaml").unlink()
        os.mkfifo(tmp_path / "a.yaml", 0o600)

    swap_at_the_opening(monkeypatch, swap)
    assert "a fifo, not a plain file" in only(load(tmp_path))


@pytest.mark.security("S27")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_that_takes_the_place_of_ours_is_seen_once_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(POOL)

    def swap() -> None:
        (tmp_path / "theirs").write_text(POOL.replace("tank", "evil"))
        os.chown(tmp_path / "theirs", 4711, 0)
        (tmp_path / "theirs").rename(tmp_path / "a.yaml")

    swap_at_the_opening(monkeypatch, swap)
    assert "owned by uid 4711, neither root nor the daemon's user" in only(load(tmp_path))


def config_map(mount: Path, generation: str, **content: str) -> None:
    """What the kubelet does when a ConfigMap changes."""
    (mount / generation).mkdir(parents=True)
    for name, text in content.items():
        (mount / generation / f"{name}.yaml").write_text(text)
        if not (mount / f"{name}.yaml").is_symlink():
            (mount / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    (mount / "..data_tmp").symlink_to(generation)
    (mount / "..data_tmp").rename(mount / "..data")


def test_a_config_map_is_read_through_its_links(tmp_path: Path) -> None:
    config_map(tmp_path, "..2024_1", pool=POOL, device=DEVICE)
    assert keys(load(tmp_path)) == KEYS


def test_a_config_map_that_is_swapped_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_map(tmp_path, "..2024_1", device=DEVICE, pool=POOL)
    other = {"device": DEVICE.replace("tank", "vault"), "pool": POOL.replace("tank", "vault")}
    really, swapped = os.read, threading.Event()

    def reading(fd: int, count: int) -> bytes:
        if not swapped.is_set():  # after the device has been opened, before the pool is
            swapped.set()
            config_map(tmp_path, "..2024_2", **other)
        return really(fd, count)

    monkeypatch.setattr(os, "read", reading)
    assert keys(load(tmp_path)) == [Key("vault"), Key("vault", "app")]


@pytest.mark.security("S26")
def test_a_config_map_behind_a_directory_that_others_may_write(tmp_path: Path) -> None:
    config_map(tmp_path, "..2024_1", pool=POOL)
    inner = tmp_path / "..2024_1"
    inner.chmod(0o777)
    assert only(load(tmp_path)) == (
        f"{tmp_path}/pool.yaml:1:1: {inner}: others may write it (mode 0777): run `chmod go-w {inner}`"
    )

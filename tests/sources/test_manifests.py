"""Loading manifests: what is read, in which order, and what is refused before it is read."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.sources import files
from reconciler.sources.manifests import Loaded, load

POOL = """\
apiVersion: dm-reconciler/v1
kind: ThinPool
metadata: {name: tank}
spec:
  data: {file: /srv/d, size: 2GiB}
  metadata: {file: /srv/m, size: 32MiB}
"""
DEVICE = """\
apiVersion: dm-reconciler/v1
kind: ThinDevice
metadata:
  name: app
spec:
  pool: tank
  size: 1GiB
"""
EXAMPLES = Path(__file__).parents[2] / "manifests"
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


def test_the_examples_are_sound() -> None:
    loaded = load(EXAMPLES, trust=False)
    assert {str(key) for key in keys(loaded)} >= {"tank", "vault", "tank/base", "tank/app", "tank/scratch"}


def test_records_may_be_in_one_file_or_in_many(tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    (one / "all.yaml").write_text(f"---\n{POOL}---\n---\n# nothing\n---\n{DEVICE}...\n")
    (many / "1.yml").write_text(DEVICE)
    (many / "2.yaml").write_text(POOL)
    assert load(one).records == load(many).records
    assert keys(load(one)) == KEYS


def test_files_are_read_in_name_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "10.yaml", "9.yaml"):
        (tmp_path / name).touch()
    loaded = load(tmp_path)
    assert [Path(file).name for file in loaded.files] == ["10.yaml", "9.yaml", "a.yml", "b.yaml"]


@pytest.mark.parametrize(
    "name", [".x.yaml", ".x.yaml.swp", "x.yaml~", "#x.yaml#", ".#x.yaml", "4913", "x.json", "README", "x.yaml.bak"]
)
def test_what_editors_and_others_leave_there_is_skipped(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{{{ not YAML")
    (tmp_path / "subdirectory").mkdir()
    assert load(tmp_path).files == ()
    assert keys(load(tmp_path)) == []


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    assert keys(load(tmp_path)) == []


def test_a_file_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + f"{POOL}---\n{DEVICE}".replace("\n", "\r\n").encode())
    assert keys(load(tmp_path)) == KEYS


def test_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    text = POOL.replace("2GiB", "&size 2GiB") + "  extend: {threshold: 80%, step: 20%, max: *size}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert keys(load(tmp_path)) == [Key("tank")]


def test_words_of_yaml_1_1_are_truth_values(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{POOL}---\n{DEVICE}  readOnly: yes\n")
    records = load(tmp_path).records
    assert records is not None
    assert records.devices[Key("tank", "app")].spec.read_only


def test_the_digest_changes_with_names_and_contents_only(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POOL)
    first = load(tmp_path).digest
    path.touch()
    assert load(tmp_path).digest == first
    path.rename(tmp_path / "b.yaml")
    renamed = load(tmp_path).digest
    (tmp_path / "b.yaml").write_text(POOL + "  paused: true\n")
    assert len({first, renamed, load(tmp_path).digest}) == 3


def test_files_and_directories_can_be_named_together(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.yaml").write_text(POOL)
    (tmp_path / "device.txt").write_text(DEVICE)
    assert keys(load(folder, tmp_path / "device.txt")) == KEYS


def test_a_file_that_is_named_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(POOL)
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert keys(load(tmp_path / "link.yaml")) == [Key("tank")]


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


def test_a_directory_with_a_manifests_name(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.mkdir()
    assert only(load(tmp_path)) == f"{path}:1:1: a directory, not a plain file: move it elsewhere, or rename it"


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    os.mkfifo(path, 0o600)
    expected = f"{path}:1:1: a fifo, not a plain file: move it elsewhere, or rename it"
    assert (only(load(tmp_path)), only(load(path))) == (expected, expected)


def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("x.yaml")
        assert only(load(Path())) == "x.yaml:1:1: a socket, not a plain file: move it elsewhere, or rename it"


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
    monkeypatch.setattr(files, "MAX_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.yaml").touch()
    assert only(load(tmp_path)) == f"{tmp_path}:1:1: more than 2 manifests: put several records into a file"


def test_too_much_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_TOTAL", 3072)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text("#" * 2048)
    assert only(load(tmp_path)) == (
        f"{tmp_path}:1:1: manifests of more than 3KiB in all: no set of records is that large"
    )


def test_a_file_that_others_may_write(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POOL)
    path.chmod(0o664)
    assert only(load(tmp_path)) == f"{path}:1:1: others may write it (mode 0664): run `chmod go-w {path}`"
    assert keys(load(tmp_path, trust=False)) == [Key("tank")]


def test_a_directory_that_others_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert only(load(tmp_path)) == f"{tmp_path}:1:1: others may write it (mode 0777): run `chmod go-w {tmp_path}`"


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


def test_a_config_map_behind_a_directory_that_others_may_write(tmp_path: Path) -> None:
    config_map(tmp_path, "..2024_1", pool=POOL)
    inner = tmp_path / "..2024_1"
    inner.chmod(0o777)
    assert only(load(tmp_path)) == (
        f"{tmp_path}/pool.yaml:1:1: {inner}: others may write it (mode 0777): run `chmod go-w {inner}`"
    )


def test_many_records_load_soon(tmp_path: Path) -> None:
    devices = "".join(f"---\n{DEVICE.replace('app', f'd{number}')}" for number in range(2000))
    (tmp_path / "a.yaml").write_text(POOL + devices)
    assert len(keys(load(tmp_path))) == 2001

"""Opening a store, new or existing; one that cannot be opened gives one line with the remedy, and is left as it is."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.model.steps import SavePool
from reconciler.model.stored import StoredPool
from reconciler.model.units import Sectors
from reconciler.store import migrations
from reconciler.store.errors import StoreError
from reconciler.store.store import Store

TANK = Key("tank")


def pool(name: str, uuid: str = "DMR-1") -> StoredPool:
    return StoredPool(name, uuid, True, "/d", "/m", Sectors(128), "passdown", taken_over_at=0)


def opened(directory: Path) -> Store:
    return Store.open(directory, wall_clock=lambda: 0.0)


def edited(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


@pytest.fixture
def path(directory: Path) -> Path:
    """The path of a closed store, with enough pools for several pages."""
    with opened(directory) as store:
        for number in range(200):
            store.apply(SavePool(Key(f"p{number}"), pool(f"p{number}")))
    return directory / "state.db"


def refusal(directory: Path) -> str:
    """What both ways of opening report."""
    with pytest.raises(StoreError) as writing:
        opened(directory)
    with pytest.raises(StoreError) as reading:
        Store.open_read_only(directory)
    assert "\n" not in f"{writing.value}{reading.value}"
    assert str(directory) in str(writing.value)
    return str(writing.value)


def test_a_new_store_has_an_id_that_stays(directory: Path) -> None:
    with opened(directory) as store:
        first = store.store_id
    assert len(first) == 32
    assert int(first, 16) >= 0
    with opened(directory) as store, Store.open_read_only(directory) as reader:
        assert store.store_id == reader.store_id == first


@pytest.mark.security("S44")
def test_a_new_store_is_its_owners_alone(store: Store, directory: Path) -> None:
    store.apply(SavePool(TANK, pool("tank")))
    modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in directory.iterdir()}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_each_step_is_flushed_before_the_next_begins(store: Store) -> None:
    assert store._db.read("PRAGMA journal_mode") == [("wal",)]
    assert store._db.read("PRAGMA synchronous") == [(2,)]
    assert store._db.read("PRAGMA foreign_keys") == [(1,)]
    with store._db.transaction(durable=False):
        assert store._db.read("PRAGMA synchronous") == [(1,)]
    with store._db.transaction():
        assert store._db.read("PRAGMA synchronous") == [(2,)]


def test_what_a_killed_first_start_left_is_no_store(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "state.db.new").write_bytes(b"half")
    (directory / "state.db.new-wal").write_bytes(b"half")
    with opened(directory) as store:
        assert store.store_id
    assert {item.name for item in directory.iterdir()} == {"state.db"}


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 5000, 8192, -4096])
def test_a_truncated_store_is_left_as_it_is(path: Path, size: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    said = writing_refusal(path.parent)
    assert "is damaged" in said
    assert "restore a copy" in said
    # Readers do not check the whole file first, because they are to be quick.
    with suppress(StoreError), Store.open_read_only(path.parent) as reader:
        reader.events()
    assert path.read_bytes() == whole[:size]


def writing_refusal(directory: Path) -> str:
    with pytest.raises(StoreError) as refused:
        opened(directory)
    return str(refused.value)


@pytest.mark.parametrize("start", [0, 4096 + 1])
def test_a_garbled_store_is_left_as_it_is(path: Path, start: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)
    assert "is damaged" in writing_refusal(path.parent)
    assert path.read_bytes() == content


@pytest.mark.security("S41")
@pytest.mark.parametrize(
    "garble",
    [
        "UPDATE pools SET body = '{}'",
        "UPDATE pools SET body = 'x'",
        "DELETE FROM meta",
        "UPDATE pools SET body = CAST(x'ff' AS TEXT)",
        "PRAGMA ignore_check_constraints = ON; INSERT INTO thin_ids VALUES ('p1', 1, 'nobody', '', NULL)",
        "INSERT INTO statuses VALUES ('p1', '', 'Other', '{}')",
    ],
)
def test_a_store_with_garbled_rows_is_left_as_it_is(path: Path, garble: str) -> None:
    edited(path, garble)
    content = path.read_bytes()
    assert "is damaged" in writing_refusal(path.parent)
    assert path.read_bytes() == content


def test_a_store_of_a_later_version_is_left_as_it_is(path: Path) -> None:
    edited(path, f"PRAGMA user_version = {len(migrations.MIGRATIONS) + 1}")
    content = path.read_bytes()
    assert "later version" in refusal(path.parent)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_as_it_is(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    edited(directory / "state.db", "CREATE TABLE theirs (a)")
    content = (directory / "state.db").read_bytes()
    assert "not a store of dm-reconciler" in refusal(directory)
    assert (directory / "state.db").read_bytes() == content


def test_a_log_without_its_store_is_not_mixed_with_a_new_one(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "state.db-wal").write_bytes(b"x" * 100)
    assert "log" in writing_refusal(directory)
    assert not (directory / "state.db").exists()


def test_a_full_disk_is_told_and_nothing_is_half_done(store: Store) -> None:
    store.apply(SavePool(TANK, pool("tank")))
    pages = store._db.read("PRAGMA page_count")[0][0]
    store._db.read(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="free some space"):
        store.apply(SavePool(TANK, pool("tank", uuid="x" * 100_000)))
    assert store.known_pool("tank") == pool("tank")
    store._db.read("PRAGMA max_page_count = 100000")
    store.apply(SavePool(TANK, pool("tank", uuid="x" * 100_000)))
    assert store.known_pool("tank") == pool("tank", uuid="x" * 100_000)


def test_a_store_that_cannot_be_written_to_is_told(store: Store) -> None:
    store._db.read("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="cannot be written to"):
        store.apply(SavePool(TANK, pool("tank")))
    assert store.known_pools() == {}


def test_a_store_that_another_program_keeps_locked_is_told(store: Store, directory: Path) -> None:
    other = sqlite3.connect(directory / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._db.read("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreError, match="keeps it locked"):
        store.apply(SavePool(TANK, pool("tank")))
    other.close()


def test_a_closed_store_says_so(directory: Path) -> None:
    store = opened(directory)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.events()


def test_no_store_at_all_is_told_to_readers(directory: Path) -> None:
    with pytest.raises(StoreError, match="start the daemon first"):
        Store.open_read_only(directory)
    directory.mkdir(mode=0o700)
    with pytest.raises(StoreError, match="start `dm-reconciler run`"):
        Store.open_read_only(directory)
    assert list(directory.iterdir()) == []


@pytest.mark.security("S38")
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_to_is_refused(path: Path, mode: int) -> None:
    path.parent.chmod(mode)
    assert f"others may write it (mode {mode:04o}): run `chmod go-w {path.parent}`" in refusal(path.parent)


@pytest.mark.security("S38")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_directory_of_another_user_is_refused(path: Path) -> None:
    os.chown(path.parent, 65534, -1)
    assert "owned by uid 65534" in refusal(path.parent)


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match="not a directory"):
        Store.open_read_only(file)
    with pytest.raises(StoreError, match="state directory"):
        opened(file)


def test_a_path_with_every_odd_character_works(tmp_path: Path) -> None:
    odd = tmp_path / "a b?c#d%20é;\n"
    with opened(odd) as store, Store.open_read_only(odd) as reader:
        assert reader.store_id == store.store_id

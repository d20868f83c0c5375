"""A disk that fills up and a file that is removed while the store is in use: nothing is half done, and it recovers."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.model.steps import SavePool
from reconciler.model.stored import StoredPool
from reconciler.model.units import Sectors
from reconciler.store.errors import StoreUnusable
from reconciler.store.store import Store

LARGE = "x" * 20_000


def know(store: Store, number: int) -> None:
    name = f"p{number}"
    store.apply(SavePool(Key(name), StoredPool(name, LARGE, True, "/d", "/m", Sectors(128), "passdown")))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Acts like a full disk for this process: a write beyond the limit fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def in_a_child(does: Callable[[], None]) -> int:
    """Runs in a child process, because the limit applies to all files of a process."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            does()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the child does not use the other threads of the tests
def test_there_is_no_room_at_any_moment_of_a_transaction(directory: Path) -> None:
    with Store.open(directory, wall_clock=lambda: 0.0):
        pass

    def fill_up() -> None:
        refused = 0
        with Store.open(directory, wall_clock=lambda: 0.0) as store:
            know(store, 0)
            for size in range(60_000, 400_000, 5_000):
                before = dict(store.known_pools())
                number = len(before)
                try:
                    with files_of_at_most(size):
                        know(store, number)
                except StoreUnusable:
                    refused += 1
                    assert store.known_pools() == before
                    assert store.trouble is not None
                    store.try_again()
                    assert store.trouble is None
            after = dict(store.known_pools())
        assert refused > 5
        with Store.open(directory, wall_clock=lambda: 0.0) as store:
            assert store.known_pools() == after

    assert in_a_child(fill_up) == 0


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
def test_a_file_that_is_gone_is_not_written_to_and_may_come_back(store: Store, directory: Path, name: str) -> None:
    know(store, 0)
    (directory / name).rename(directory / "elsewhere")
    with pytest.raises(StoreUnusable, match="gone or was replaced"):
        know(store, 1)
    assert store.known_pools().keys() == {"p0"}
    store.try_again()
    assert store.trouble is not None
    assert not (directory / name).exists()
    (directory / "elsewhere").rename(directory / name)
    store.try_again()
    assert store.trouble is None
    know(store, 1)


def test_a_copy_in_its_place_is_not_written_to(store: Store, directory: Path) -> None:
    know(store, 0)
    shutil.copy(directory / "state.db", directory / "copy")
    (directory / "copy").rename(directory / "state.db")
    with pytest.raises(StoreUnusable, match="gone or was replaced"):
        know(store, 1)


def test_trouble_is_over_once_a_try_works(store: Store) -> None:
    know(store, 0)
    store._db.read("PRAGMA query_only = ON")
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="cannot be written to"):
            know(store, 1)
        store.try_again()
        assert "cannot be written to" in str(store.trouble)
    store._db.read("PRAGMA query_only = OFF")
    know(store, 1)
    assert store.trouble is not None, "what is small may fit where nothing else does"
    store.try_again()
    assert store.trouble is None

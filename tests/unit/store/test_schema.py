"""Migrations are applied in order, each once, completely or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from reconciler.store.migrations import MIGRATIONS, migrate, version_of

MORE = (*MIGRATIONS, "ALTER TABLE pools ADD COLUMN note TEXT; CREATE TABLE more (a)")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    yield opened
    opened.close()


def shape(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")]


def test_from_nothing_to_the_current_version(connection: sqlite3.Connection) -> None:
    migrate(connection)
    assert version_of(connection) == len(MIGRATIONS)
    assert len(shape(connection)) >= 8


@pytest.mark.parametrize("start", range(len(MORE) + 1))
def test_from_every_version_to_the_same_tables(connection: sqlite3.Connection, start: int) -> None:
    migrate(connection, MORE[:start])
    migrate(connection, MORE)
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    migrate(fresh, MORE)
    assert version_of(connection) == len(MORE)
    assert shape(connection) == shape(fresh)
    fresh.close()


def test_a_current_one_is_left_alone(connection: sqlite3.Connection) -> None:
    migrate(connection)
    before = connection.total_changes, shape(connection)
    migrate(connection)
    assert (connection.total_changes, shape(connection)) == before


def test_a_migration_that_fails_leaves_the_version_before(connection: sqlite3.Connection) -> None:
    migrate(connection)
    before = shape(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*MIGRATIONS, "CREATE TABLE more (a); SELECT * FROM nowhere"))
    assert version_of(connection) == len(MIGRATIONS)
    assert shape(connection) == before
    assert not connection.in_transaction

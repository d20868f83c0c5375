"""However the store's file was changed, by somebody or by a bad disk: it is accepted or refused whole, and left as it
is.
"""

from __future__ import annotations

import os
import random
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.model.steps import SavePool
from reconciler.model.stored import StoredPool
from reconciler.model.units import Sectors
from reconciler.store import migrations
from reconciler.store.errors import StoreDamaged, StoreError
from reconciler.store.quarantine import name_for_aside, recall, recall_id, set_aside
from reconciler.store.store import Store
from tests.unit.store.hostile import PAGE, Known, copied, edited, fill, told

pytestmark = pytest.mark.security("S39")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "state"
    fill(directory)
    return directory


@pytest.fixture(scope="module")
def known(whole: Path) -> Known:
    with Store.open_read_only(whole) as store:
        return told(store)


@pytest.fixture
def state(whole: Path, tmp_path: Path) -> Path:
    return copied(whole, tmp_path / "state")


def contents(directory: Path) -> dict[str, bytes]:
    """The content of all files, without the empty WAL and the index of one, which every read may leave."""
    return {
        file.name: file.read_bytes()
        for file in directory.iterdir()
        if file.is_file() and file.stat().st_size and not file.name.endswith("-shm")
    }


def refusal(directory: Path) -> str:
    """Why the store is not opened, in one line; empty if it is. A refused store must be unchanged."""
    before = contents(directory)
    line = reason(lambda: told_of(directory))
    if not line:
        return ""
    assert str(directory) in line
    assert contents(directory) == before
    reason(lambda: Store.open_read_only(directory).close())
    assert reason(lambda: Store.examine(directory)) == line
    assert contents(directory) == before
    return line


def told_of(directory: Path) -> None:
    with Store.open(directory, wall_clock=lambda: 0.0) as store:
        told(store)


def reason(does: Callable[[], None]) -> str:
    """The message of a StoreError, which must be one printable line; empty if there was none."""
    try:
        does()
    except StoreError as error:
        said = str(error)
    else:
        return ""
    assert said.isprintable()
    return said


def spoilt(state: Path, content: bytes, name: str = "state.db") -> str:
    (state / name).write_bytes(content)
    for left in ("state.db-shm", *(() if name != "state.db" else ("state.db-wal",))):
        (state / left).unlink(missing_ok=True)
    return refusal(state)


def test_cut_off_at_every_page_and_anywhere_between(whole: Path, state: Path) -> None:
    content, rng = (whole / "state.db").read_bytes(), random.Random(1)
    cuts = [*range(0, len(content), PAGE), *(rng.randrange(len(content)) for _ in range(30))]
    for cut in cuts:
        assert "is damaged" in spoilt(state, content[:cut]), cut


def test_every_page_garbled(whole: Path, state: Path) -> None:
    content, rng = (whole / "state.db").read_bytes(), random.Random(2)
    used = [at for at in range(0, len(content), PAGE) if any(content[at : at + PAGE])]
    assert len(used) > 20
    for at in used:
        said = spoilt(state, content[:at] + rng.randbytes(PAGE) + content[at + PAGE :])
        assert "is damaged" in said, at


def test_bytes_flipped_in_every_page(whole: Path, state: Path) -> None:
    """Only a changed letter in a message goes unnoticed; every other change must be noticed."""
    content, rng = (whole / "state.db").read_bytes(), random.Random(3)
    refused = 0
    for at in range(0, len(content), PAGE):
        for count in (1, 8):
            changed = bytearray(content)
            for _ in range(count):
                changed[at + rng.randrange(PAGE)] ^= 1 << rng.randrange(8)
            refused += bool(spoilt(state, bytes(changed)))
    assert refused > len(content) // PAGE // 4


def a_log(state: Path) -> bytes:
    """A WAL as a crash leaves it beside the file."""
    with Store.open(state, wall_clock=lambda: 0.0) as store:
        for number in range(20):
            store.save_records([], f"digest {number}")
        return (state / "state.db-wal").read_bytes()


def test_a_log_that_is_cut_off_or_garbled_or_another_stores(whole: Path, state: Path, tmp_path: Path) -> None:
    """What SQLite accepts of the WAL is an earlier state of this store, or the store is refused."""
    other = tmp_path / "other"
    fill(other)
    logs, rng = [a_log(copied(whole, tmp_path / "log")), a_log(other)], random.Random(4)
    for number in range(30):
        content = bytearray(logs[number % 2])
        if number % 3 == 0:
            del content[rng.randrange(len(content)) :]
        if number % 3 == 1:
            content[rng.randrange(len(content))] ^= 0xFF
        copied(whole, state)
        spoilt(state, bytes(content), "state.db-wal")


def test_another_stores_log_is_not_mixed_in_unseen(whole: Path, state: Path, tmp_path: Path, known: Known) -> None:
    other = tmp_path / "other"
    with Store.open(other, wall_clock=lambda: 0.0):
        pass
    log = a_log(other)
    copied(whole, state)
    said = spoilt(state, log, "state.db-wal")
    if not said:
        with Store.open_read_only(state) as store:
            assert told(store).devices == known.devices
    else:
        assert "is damaged" in said


def _sockets(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # keeps the address short
        one.bind(path.name)
        os.chdir(here)


Maker = Callable[[Path], object]
OTHER_THINGS: dict[str, tuple[Maker, str]] = {
    "nothing in it": (lambda path: path.write_bytes(b""), "is damaged"),
    "text": (lambda path: path.write_text("state of things\n" * 500), "is damaged"),
    "zeros": (lambda path: path.write_bytes(bytes(40960)), "is damaged"),
    "a directory": (lambda path: path.mkdir(), "is a directory"),
    "a fifo": (os.mkfifo, "is a fifo"),
    "a socket": (_sockets, "is a socket"),
    "a link": (lambda path: path.symlink_to("elsewhere.db"), "is a symbolic link"),
    "a link that loops": (lambda path: path.symlink_to("state.db"), "is a symbolic link"),
    "another program's": (lambda path: edited(path, "CREATE TABLE theirs (a)"), "not a store of dm-reconciler"),
    "another's application id": (lambda path: edited(path, "CREATE TABLE a (b); PRAGMA application_id = 7"), "not a store"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER_THINGS)
def test_something_else_under_its_name(state: Path, what: str) -> None:
    make, words = OTHER_THINGS[what]
    (state / "state.db").unlink()
    make(state / "state.db")
    for suffix in ("-wal", "-shm"):
        (state / f"state.db{suffix}").unlink(missing_ok=True)
    assert words in refusal(state)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_fifo_beside_it_does_not_hang(state: Path, suffix: str) -> None:
    (state / f"state.db{suffix}").unlink(missing_ok=True)
    os.mkfifo(state / f"state.db{suffix}")
    assert "is a fifo" in refusal(state)


def test_no_new_store_takes_the_place_of_one_that_a_link_led_to(state: Path) -> None:
    (state / "state.db").rename(state.parent / "elsewhere.db")
    (state / "state.db").symlink_to(state.parent / "unmounted" / "elsewhere.db")
    assert "is a symbolic link" in refusal(state)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_others_may_not_write_to_it(state: Path, mode: int) -> None:
    (state / "state.db").chmod(mode)
    assert "`chmod go-w" in refusal(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_it_is_not_somebody_elses(state: Path) -> None:
    os.chown(state / "state.db", 65534, -1)
    assert "owned by uid 65534" in refusal(state)


NONSENSE = {
    "a table is gone": "DROP TABLE intents",
    "a table has other columns": "ALTER TABLE pools ADD COLUMN more",
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON pools BEGIN DELETE FROM devices; END",
    "no version": "PRAGMA user_version = 0",
    "a version below": "PRAGMA user_version = -1",
    "a device of no pool": "INSERT INTO devices VALUES ('none', 'a', 1, '{}')",
    "a device with another's id": "UPDATE devices SET body = replace(body, '\"thin_id\":3', '\"thin_id\":4') WHERE thin_id = 3",
    "an id below 0": "UPDATE devices SET body = replace(body, '\"thin_id\":3', '\"thin_id\":-3') WHERE thin_id = 3",
    "a size below 0": "UPDATE devices SET body = replace(body, '\"size\":32768', '\"size\":-1')",
    "a transaction below 0": "UPDATE pools SET body = replace(body, '\"transaction_id\":40', '\"transaction_id\":-40')",
    "an id handed out beyond all": "UPDATE pools SET last_thin_id = 16777216",
    "a pool under another's name": "UPDATE pools SET body = replace(body, '\"name\":\"tank\"', '\"name\":\"tonk\"')",
    "a device under another's name": "UPDATE devices SET body = replace(body, '\"dev3\"', '\"dev4\"')",
    "a name with a slash": "UPDATE devices SET body = replace(body, 'tank-dev3\"', 'tank/../3\"')",
    "an id that is nobody's": "UPDATE thin_ids SET device = 'nobody', held_as = 'device' WHERE device = 'dev3'",
    "an id held for an operation that is none": "INSERT INTO thin_ids VALUES ('tank', 99, 'intent', 'dev3', NULL)",
    "an id of a state that is none": "PRAGMA ignore_check_constraints = 1; UPDATE thin_ids SET held_as = 'x'",
    "files to delete that are not the pool's": "UPDATE pools SET body = replace(body, '\"made_files\":[]', '\"made_files\":[\"/etc/passwd\"]')",
    "an operation of another pool": "INSERT INTO intents SELECT 'tank', 3, '{\"key\":[\"rest\",\"a\"],\"kind\":\"create\",\"thin_id\":3,\"transaction_id\":1,\"uuid\":\"\",\"dm_name\":\"\",\"size\":1}'",
    "JSON that does not fit": "UPDATE devices SET body = '[]'",
    "JSON that is none": "UPDATE devices SET body = '{\"key\":'",
    "JSON without an end": f"UPDATE devices SET body = '{'[' * 100_000}'",  # noqa: S608
    "a number without an end": f"UPDATE pools SET body = replace(body, '\"transaction_id\":40', '\"transaction_id\":{'4' * 5000}')",  # noqa: S608
    "a blob": "UPDATE devices SET body = x'00ff'",
    "a record that is none": "UPDATE manifests SET body = replace(body, 'ThinDevice', 'Other')",
    "a record whose spec is no mapping": "UPDATE manifests SET body = replace(body, '{\\\"pool\\\":\\\"tank\\\"}', '7')",
    "a status that is none": "UPDATE statuses SET body = replace(body, 'Converged', 'Splendid')",
    "a store id that is none": "UPDATE meta SET value = '../../x' WHERE name = 'store_id'",
    "a time beyond all": "UPDATE statuses SET body = replace(body, '\"since\":1.0', '\"since\":1e999')",
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
def test_rows_that_cannot_be_true(state: Path, what: str) -> None:
    before = (state / "state.db").read_bytes()
    edited(state / "state.db", NONSENSE[what])
    assert (state / "state.db").read_bytes() != before, "nothing was changed"
    assert "is damaged" in refusal(state)


def test_events_that_cannot_be_true_are_told_to_readers_when_they_are_asked_for(state: Path) -> None:
    edited(state / "state.db", """UPDATE events SET body = replace(body, '"time":3.0', '"time":1e300')""")
    with Store.open_read_only(state) as store, pytest.raises(StoreDamaged):
        store.events()
    assert "is damaged" in refusal(state)


def test_one_of_an_earlier_version_is_brought_up_to_date_and_a_copy_is_kept(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir(mode=0o700)
    with closing(sqlite3.connect(old / "state.db", isolation_level=None)) as connection:
        migrations.migrate(connection, migrations.MIGRATIONS[:1])
        connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
        connection.execute("INSERT INTO meta VALUES ('store_id', ?)", ("5" * 32,))
    (old / "state.db").chmod(0o600)
    with Store.open(old, wall_clock=lambda: 0.0) as store:
        assert store.store_id == "5" * 32
    with closing(sqlite3.connect(old / "state.db.version-1")) as connection:
        assert migrations.version_of(connection) == 1
        assert connection.execute("SELECT value FROM meta").fetchall() == [("5" * 32,)]
    assert (old / "state.db.version-1").stat().st_mode & 0o777 == 0o600


class TestAside:
    @pytest.fixture
    def put_aside(self, state: Path) -> Path:
        with Store.open(state, wall_clock=lambda: 0.0):
            a_log(state)  # stays open, so that closing does not fold it in
            for name in ("state.db", "state.db-wal"):
                copy = (state / name).read_bytes()
                (state.parent / name).write_bytes(copy)
        for name in ("state.db", "state.db-wal"):
            (state / name).write_bytes((state.parent / name).read_bytes())
        target = name_for_aside(state, 0.0)
        set_aside(state, target)
        return target

    def test_it_is_moved_as_it_is_with_its_log(self, state: Path, put_aside: Path) -> None:
        assert put_aside.name == "state.db.damaged-19700101T000000Z"
        assert put_aside.read_bytes() == (state.parent / "state.db").read_bytes()
        assert (state / f"{put_aside.name}-wal").read_bytes() == (state.parent / "state.db-wal").read_bytes()
        assert not (state / "state.db").exists()
        assert name_for_aside(state, 0.0).name == "state.db.damaged-19700101T000000Z.2"

    def test_killed_between_the_two_nothing_passes_for_a_whole_one(
        self, state: Path, put_aside: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without its WAL, the file would be a valid store of an earlier time."""
        for suffix in ("", "-wal"):
            (state / f"{put_aside.name}{suffix}").rename(state / f"state.db{suffix}")
        rename, renamed = Path.rename, list[str]()

        def once(path: Path, target: Path) -> Path:
            if renamed:
                raise KeyboardInterrupt
            renamed.append(path.name)
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", once)
        with pytest.raises(KeyboardInterrupt):
            set_aside(state, put_aside)
        monkeypatch.undo()
        assert renamed == ["state.db"]
        assert "its log" in reason(lambda: told_of(state))

    def test_what_is_in_it_is_remembered_and_left_as_it_is(self, state: Path, put_aside: Path, known: Known) -> None:
        before = contents(state)
        remembered = recall(put_aside)
        assert {name: dict(one.devices) for name, one in remembered.items()} == known.devices
        assert {name: one.pool for name, one in remembered.items()} == known.pools
        assert contents(state) == before

    def test_what_is_only_in_its_log_is_remembered_too(self, state: Path) -> None:
        late = StoredPool("late", "DMR-1", True, "/d", "/m", Sectors(128), "passdown", taken_over_at=0)
        with Store.open(state, wall_clock=lambda: 0.0) as store:
            store.apply(SavePool(Key("late"), late))
            left = {name: (state / name).read_bytes() for name in ("state.db", "state.db-wal")}
        for name, content in left.items():
            (state / name).write_bytes(content)
        target = name_for_aside(state, 0.0)
        set_aside(state, target)
        assert recall(target)["late"].pool == late

    def test_the_new_one_has_its_id_and_says_whose_place_it_took(
        self, state: Path, whole: Path, put_aside: Path
    ) -> None:
        with Store.open_read_only(whole) as old, Store.open(state, wall_clock=lambda: 0.0, instead_of=put_aside) as new:
            assert new.store_id == old.store_id
            assert not new.known_pools()
            assert new.instead_of == put_aside
        with Store.open_read_only(state) as again:
            assert again.instead_of == put_aside

    @pytest.mark.usefixtures("put_aside")
    def test_one_that_is_made_without_it_has_nothing_to_do_with_it(self, state: Path, whole: Path) -> None:
        with Store.open_read_only(whole) as old, Store.open(state, wall_clock=lambda: 0.0) as new:
            assert new.store_id != old.store_id
            assert new.instead_of is None

    def test_what_is_remembered_of_one_that_is_spoilt_is_true(
        self, whole: Path, state: Path, put_aside: Path, known: Known
    ) -> None:
        content, rng = (whole / "state.db").read_bytes(), random.Random(5)
        with Store.open_read_only(whole) as one_that_is_whole:
            its_id = one_that_is_whole.store_id
        (state / f"{put_aside.name}-wal").unlink()
        most = 0
        for at in range(0, len(content), PAGE):
            put_aside.write_bytes(content[:at] + rng.randbytes(PAGE) + content[at + PAGE :])
            remembered = recall(put_aside)
            for pool, one in remembered.items():
                assert one.pool in (None, known.pools[pool])
                assert one.devices.items() <= known.devices[pool].items()
            most += sum(len(one.devices) for one in remembered.values()) > 0
            assert recall_id(put_aside) in (None, its_id)
        assert most > len(content) // PAGE // 2

"""A store that is damaged, on a real kernel: nothing is done on guesses, and what its message says brings all back.

The way is that of docs/how-to/rebuild-a-store.md, on two pools with a committed device, which is not live, and snapshots.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.main import main
from reconciler.store.store import Store
from tests.testing.environment import House, a_house
from tests.testing.pools import attach, checksum, detach_loops, dmsetup, put_down
from tests.testing.real_kernel import Run, run

CONVERGED, NOT_DONE, NOT_AS_DESIRED = 0, 1, 4
LIVE = ("app", "twin")
PAGE = 4096


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool(), house.device("app", snapshotOf="base"), house.device("twin", snapshotOf="app"))
        house.declare(house.device("base", state="Committed", filesystem={"type": "ext4"}), file="base.yaml")
        small = {"file": str(house.root / "rest.data"), "size": "64MiB"}
        house.declare(house.pool("rest", data=small), house.device("only", pool="rest"), file="rest.yaml")
        applied(house)
        with house.mounted("app") as point:
            (point / "file").write_text("kept")
        yield house


@pytest.fixture(scope="module")
def before(house: House) -> dict[str, object]:
    """The same through all tests: whatever is done to the store, nothing is to change."""
    return facts(house)


def applied(house: House) -> None:
    said = say(house, "apply", "--manifests", str(house.manifests))
    assert said.code == CONVERGED, said


def facts(house: House) -> dict[str, object]:
    """What must not change: every thin id with its size and the transaction that made it, and the data of each device."""
    ids = {pool: house.thin_ids(pool) for pool in ("tank", "rest")}
    live = {name: checksum(house.node(name)) for name in LIVE}
    return {**ids, **live, "only": checksum(house.node("only", "rest")), "base": checksum_of_base(house)}


def checksum_of_base(house: House) -> str:
    """It is not live: shown to the test alone, read-only, for the moment."""
    name, pool = f"{house.prefix}probe", house.dm.info(house.prefix + "tank")
    assert pool is not None
    dmsetup("create", "--readonly", name, "--table", f"0 32768 thin {pool.devno} 0")
    try:
        return checksum(f"/dev/mapper/{name}")
    finally:
        dmsetup("remove", "--retry", name)


def the_kernel() -> str:
    """Every device and loop of the host, and where the pools are."""
    return "\n".join(
        run(*words).out for words in (["dmsetup", "table"], ["dmsetup", "info", "-c"], ["losetup", "--list"])
    )


def store(house: House) -> Path:
    return house.state / "state.db"


def everything(house: House) -> dict[str, bytes]:
    """What is in the store. An empty log, and the index of one, come with any look at it."""
    return {
        file.name: data
        for file in house.state.glob("state.db*")
        if (data := file.read_bytes()) and file.suffix != ".db-shm"
    }


def say(house: House, *words: str) -> Run:
    """In this process, as starting one takes its time inside the sandbox; but the daemon drops what tests still need."""
    if words[0] == "run":
        return run(sys.executable, "-m", "reconciler", *words, "--state-dir", str(house.state), check=False)
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([*words, "--state-dir", str(house.state)])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Run(code, out.getvalue(), err.getvalue())


def refused(house: House) -> str:
    """Every command says so in one line and changes nothing, neither of the store nor in the kernel."""
    kernel, files = the_kernel(), everything(house)
    manifests = ("--manifests", str(house.manifests))
    line = ""
    for command in (
        ("apply", *manifests),
        ("run", *manifests, "--listen", "127.0.0.1:0"),
        ("plan", *manifests),
        ("get",),
        ("describe", "device", house.key("app")),
        ("events",),
    ):
        result = say(house, *command)
        assert result.code == NOT_DONE, (command, result)
        (line,) = result.err.splitlines()
        assert "is damaged" in line, (command, result)
    result = say(house, "doctor", *manifests)
    assert result.code == NOT_AS_DESIRED
    assert "[!!] store: store " in result.out
    assert everything(house) == files
    assert the_kernel() == kernel
    return line


def said_by_apply(house: House) -> str:
    result = say(house, "apply", "--manifests", str(house.manifests))
    assert result.code == NOT_DONE, result
    return result.err


def as_told(house: House, line: str) -> Run:
    """The very command that the line names."""
    (command,) = re.findall(r"`dm-reconciler (doctor --fix [^`]*)`", line)
    words = [str(house.manifests) if word == "DIR" else word for word in shlex.split(command)]
    at = words.index("--state-dir")
    assert words[at + 1] == str(house.state)
    return say(house, *words[:at], "--yes")


def damage(house: House, table: str) -> bytes:
    """Garble the page on which the table begins; `sqlite_master` begins on the first."""
    path = store(house)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    start, whole = ((found[0] if found else 1) - 1) * PAGE, path.read_bytes()
    path.write_bytes(whole[:start] + b"\xa5" * PAGE + whole[start + PAGE :])
    return path.read_bytes()


def kept(house: House) -> bytes:
    """The damaged store, after it was set aside."""
    with Store.open_read_only(house.state) as store:
        assert store.instead_of is not None
        return store.instead_of.read_bytes()


def test_what_can_still_be_read_and_the_pools_confirm_is_known_again(house: House, before: dict[str, object]) -> None:
    """Also the committed device, which nothing on the host shows."""
    broken = damage(house, "statuses")
    line = refused(house)
    fixed = as_told(house, line)
    assert fixed.code == CONVERGED, fixed
    assert kept(house) == broken
    for name in ("base", *LIVE):
        assert f"{house.key(name)} is thin id " in fixed.out
    assert "base is thin id 0 again, as the damaged store says and the pool confirms" in fixed.out
    applied(house)
    assert facts(house) == before


@pytest.mark.soak
def test_where_nothing_can_be_read_a_person_says_which_thin_it_is(house: House, before: dict[str, object]) -> None:
    broken = damage(house, "sqlite_master")
    fixed = as_told(house, said_by_apply(house))
    assert fixed.code == NOT_AS_DESIRED
    assert kept(house) == broken
    assert f"{house.key('base')} would then be made anew, empty" in fixed.out
    assert "nobody names: 0 (" in fixed.out
    assert say(house, "apply", "--manifests", str(house.manifests), "--timeout", "1s").code == NOT_AS_DESIRED
    assert facts(house) == before, "held back means that nothing is done"

    adopt = {"deviceId": 0, "dmName": house.dm_name("base")}
    house.declare(house.device("base", state="Committed", size="16MiB", adopt=adopt), file="base.yaml")
    fixed = say(house, "doctor", "--fix", "--yes", "--manifests", str(house.manifests))
    assert f"take over pool {house.prefix}tank" in fixed.out, fixed
    applied(house)
    assert facts(house) == before


@pytest.mark.soak
def test_after_a_reboot_nothing_is_live_and_the_damaged_store_is_what_is_left(
    house: House, before: dict[str, object]
) -> None:
    put_down(house, "tank", *LIVE)
    put_down(house, "rest", "only")
    for pool in ("tank", "rest"):
        detach_loops(house, pool)
    damage(house, "statuses")
    held_back = as_told(house, said_by_apply(house))
    assert "its thin ids cannot be read" in held_back.out, "there is no direct I/O on tmpfs"
    for pool in ("tank", "rest"):
        assert f"`losetup --find --show --nooverlap {house.root / pool}.meta`" in held_back.out
        attach(house.root / f"{pool}.meta")
    fixed = say(house, "doctor", "--fix", "--yes", "--manifests", str(house.manifests))
    assert "2 repairs done" in fixed.out, fixed
    for name in LIVE:
        assert f"{house.key(name)} is thin id " in fixed.out
    applied(house)
    assert facts(house) == before


@pytest.mark.soak
def test_an_older_copy_never_has_an_empty_device_made_beside_its_data() -> None:
    """What was made after the copy: one that is live, two that are not; then the same after a reboot."""
    with a_house() as house:
        make_all_with_a_copy_between(house)
        ids = house.thin_ids()
        g, i = sorted(number for number, entry in ids.items() if entry.mapped_blocks)

        restore(house)
        held_back = fix(house)
        assert held_back.code == NOT_AS_DESIRED, held_back
        assert "no repairs done" in held_back.out
        assert (
            f"that could be recorded, but {house.key('g')}, {house.key('i')} would then be made anew" in held_back.out
        )
        assert say(house, "apply", "--manifests", str(house.manifests), "--timeout", "1s").code == NOT_AS_DESIRED
        assert house.thin_ids() == ids, "held back means that nothing is done"

        named = [adopting(house, "g", g, state="Committed"), adopting(house, "i", i, state="Inactive")]
        house.declare(*named, house.device("live"), file="new.yaml")
        fixed = fix(house)
        assert "1 repair done" in fixed.out, fixed
        assert f"{house.key('live')} is thin id " in fixed.out
        applied(house)
        assert house.thin_ids() == ids

        put_down(house, "tank", "a", "live")
        detach_loops(house, "tank")
        restore(house)
        held_back = fix(house)
        assert "its thin ids cannot be read" in held_back.out, "there is no direct I/O on tmpfs"
        (command,) = re.findall(r"`(losetup [^`]*)`", held_back.out)
        run(*shlex.split(command))
        assert f"but {house.key('live')} would then be made anew, empty" in fix(house).out
        (live,) = ids.keys() - {0, g, i}
        house.declare(*named, adopting(house, "live", live), file="new.yaml")
        assert "1 repair done" in fix(house).out
        applied(house)
        assert house.thin_ids() == ids

        house.declare(adopting(house, "i", i), file="new.yaml")
        applied(house)
        with house.mounted("i") as point:
            assert (point / "file").read_text() == "kept"


def make_all_with_a_copy_between(house: House) -> None:
    house.declare(house.pool(), house.device("a"))
    applied(house)
    shutil.copytree(house.state, house.root / "copy")
    ext4: dict[str, Any] = {"filesystem": {"type": "ext4"}}
    others = house.device("g", state="Committed", **ext4), house.device("live")
    house.declare(*others, house.device("i", **ext4), file="new.yaml")
    applied(house)
    with house.mounted("i") as point:
        (point / "file").write_text("kept")
    house.declare(*others, house.device("i", state="Inactive", **ext4), file="new.yaml")
    applied(house)


def restore(house: House) -> None:
    shutil.rmtree(house.state)
    shutil.copytree(house.root / "copy", house.state)


def fix(house: House) -> Run:
    return say(house, "doctor", "--fix", "--yes", "--manifests", str(house.manifests))


def adopting(house: House, name: str, number: int, **spec: str) -> dict[str, Any]:
    filesystem: dict[str, Any] = {} if name == "live" else {"filesystem": {"type": "ext4"}}
    adopt = {"deviceId": number, "dmName": house.dm_name(name)}
    return house.device(name, size="16MiB", adopt=adopt, **filesystem, **spec)

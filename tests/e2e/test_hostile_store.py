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
from tests.testing.environment import Environment, an_environment
from tests.testing.pools import attach, checksum, detach_loops, dmsetup, put_down
from tests.testing.real_kernel import Run, run

CONVERGED, NOT_DONE, NOT_AS_DESIRED = 0, 1, 4
LIVE = ("app", "twin")
PAGE = 4096


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool(), env.device("app", snapshotOf="base"), env.device("twin", snapshotOf="app"))
        env.declare(env.device("base", state="Committed", filesystem={"type": "ext4"}), file="base.yaml")
        small = {"file": str(env.root / "rest.data"), "size": "64MiB"}
        env.declare(env.pool("rest", data=small), env.device("only", pool="rest"), file="rest.yaml")
        applied(env)
        with env.mounted("app") as point:
            (point / "file").write_text("kept")
        yield env


@pytest.fixture(scope="module")
def before(env: Environment) -> dict[str, object]:
    """The same through all tests: whatever is done to the store, nothing is to change."""
    return facts(env)


def applied(env: Environment) -> None:
    said = say(env, "apply", "--manifests", str(env.manifests))
    assert said.code == CONVERGED, said


def facts(env: Environment) -> dict[str, object]:
    """What must not change: every thin id with its size and the transaction that made it, and the data of each device."""
    ids = {pool: env.thin_ids(pool) for pool in ("tank", "rest")}
    live = {name: checksum(env.node(name)) for name in LIVE}
    return {**ids, **live, "only": checksum(env.node("only", "rest")), "base": checksum_of_base(env)}


def checksum_of_base(env: Environment) -> str:
    """It is not live: shown to the test alone, read-only, for the moment."""
    name, pool = f"{env.prefix}probe", env.dm.info(env.prefix + "tank")
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


def store(env: Environment) -> Path:
    return env.state / "state.db"


def everything(env: Environment) -> dict[str, bytes]:
    """What is in the store. An empty log, and the index of one, come with any look at it."""
    return {
        file.name: data
        for file in env.state.glob("state.db*")
        if (data := file.read_bytes()) and file.suffix != ".db-shm"
    }


def say(env: Environment, *words: str) -> Run:
    """In this process, as starting one takes its time inside the sandbox; but the daemon drops what tests still need."""
    if words[0] == "run":
        return run(sys.executable, "-m", "reconciler", *words, "--state-dir", str(env.state), check=False)
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([*words, "--state-dir", str(env.state)])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Run(code, out.getvalue(), err.getvalue())


def refused(env: Environment) -> str:
    """Every command says so in one line and changes nothing, neither of the store nor in the kernel."""
    kernel, files = the_kernel(), everything(env)
    manifests = ("--manifests", str(env.manifests))
    line = ""
    for command in (
        ("apply", *manifests),
        ("run", *manifests, "--listen", "127.0.0.1:0"),
        ("plan", *manifests),
        ("get",),
        ("describe", "device", env.key("app")),
        ("events",),
    ):
        result = say(env, *command)
        assert result.code == NOT_DONE, (command, result)
        (line,) = result.err.splitlines()
        assert "is damaged" in line, (command, result)
    result = say(env, "doctor", *manifests)
    assert result.code == NOT_AS_DESIRED
    assert "[!!] store: store " in result.out
    assert everything(env) == files
    assert the_kernel() == kernel
    return line


def said_by_apply(env: Environment) -> str:
    result = say(env, "apply", "--manifests", str(env.manifests))
    assert result.code == NOT_DONE, result
    return result.err


def as_told(env: Environment, line: str) -> Run:
    """The very command that the line names."""
    (command,) = re.findall(r"`dm-reconciler (doctor --fix [^`]*)`", line)
    words = [str(env.manifests) if word == "DIR" else word for word in shlex.split(command)]
    at = words.index("--state-dir")
    assert words[at + 1] == str(env.state)
    return say(env, *words[:at], "--yes")


def damage(env: Environment, table: str) -> bytes:
    """Garble the page on which the table begins; `sqlite_master` begins on the first."""
    path = store(env)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    start, whole = ((found[0] if found else 1) - 1) * PAGE, path.read_bytes()
    path.write_bytes(whole[:start] + b"\xa5" * PAGE + whole[start + PAGE :])
    return path.read_bytes()


def kept(env: Environment) -> bytes:
    """The damaged store, after it was set aside."""
    with Store.open_read_only(env.state) as store:
        assert store.instead_of is not None
        return store.instead_of.read_bytes()


def test_what_can_still_be_read_and_the_pools_confirm_is_known_again(
    env: Environment, before: dict[str, object]
) -> None:
    """Also the committed device, which nothing on the host shows."""
    broken = damage(env, "statuses")
    line = refused(env)
    fixed = as_told(env, line)
    assert fixed.code == CONVERGED, fixed
    assert kept(env) == broken
    for name in ("base", *LIVE):
        assert f"{env.key(name)} is thin id " in fixed.out
    assert "base is thin id 0 again, as the damaged store says and the pool confirms" in fixed.out
    applied(env)
    assert facts(env) == before


@pytest.mark.soak
def test_where_nothing_can_be_read_a_person_says_which_thin_it_is(env: Environment, before: dict[str, object]) -> None:
    broken = damage(env, "sqlite_master")
    fixed = as_told(env, said_by_apply(env))
    assert fixed.code == NOT_AS_DESIRED
    assert kept(env) == broken
    assert f"{env.key('base')} would then be made anew, empty" in fixed.out
    assert "nobody names: 0 (" in fixed.out
    assert say(env, "apply", "--manifests", str(env.manifests), "--timeout", "1s").code == NOT_AS_DESIRED
    assert facts(env) == before, "held back means that nothing is done"

    adopt = {"deviceId": 0, "dmName": env.dm_name("base")}
    env.declare(env.device("base", state="Committed", size="16MiB", adopt=adopt), file="base.yaml")
    fixed = say(env, "doctor", "--fix", "--yes", "--manifests", str(env.manifests))
    assert f"take over pool {env.prefix}tank" in fixed.out, fixed
    applied(env)
    assert facts(env) == before


@pytest.mark.soak
def test_after_a_reboot_nothing_is_live_and_the_damaged_store_is_what_is_left(
    env: Environment, before: dict[str, object]
) -> None:
    put_down(env, "tank", *LIVE)
    put_down(env, "rest", "only")
    for pool in ("tank", "rest"):
        detach_loops(env, pool)
    damage(env, "statuses")
    held_back = as_told(env, said_by_apply(env))
    assert "its thin ids cannot be read" in held_back.out, "there is no direct I/O on tmpfs"
    for pool in ("tank", "rest"):
        assert f"`losetup --find --show --nooverlap {env.root / pool}.meta`" in held_back.out
        attach(env.root / f"{pool}.meta")
    fixed = say(env, "doctor", "--fix", "--yes", "--manifests", str(env.manifests))
    assert "2 repairs done" in fixed.out, fixed
    for name in LIVE:
        assert f"{env.key(name)} is thin id " in fixed.out
    applied(env)
    assert facts(env) == before


@pytest.mark.security("S42")
@pytest.mark.soak
def test_an_older_copy_never_has_an_empty_device_made_beside_its_data() -> None:
    """What was made after the copy: one that is live, two that are not; then the same after a reboot."""
    with an_environment() as env:
        make_all_with_a_copy_between(env)
        ids = env.thin_ids()
        g, i = sorted(number for number, entry in ids.items() if entry.mapped_blocks)

        restore(env)
        held_back = fix(env)
        assert held_back.code == NOT_AS_DESIRED, held_back
        assert "no repairs done" in held_back.out
        assert f"that could be recorded, but {env.key('g')}, {env.key('i')} would then be made anew" in held_back.out
        assert say(env, "apply", "--manifests", str(env.manifests), "--timeout", "1s").code == NOT_AS_DESIRED
        assert env.thin_ids() == ids, "held back means that nothing is done"

        named = [adopting(env, "g", g, state="Committed"), adopting(env, "i", i, state="Inactive")]
        env.declare(*named, env.device("live"), file="new.yaml")
        fixed = fix(env)
        assert "1 repair done" in fixed.out, fixed
        assert f"{env.key('live')} is thin id " in fixed.out
        applied(env)
        assert env.thin_ids() == ids

        put_down(env, "tank", "a", "live")
        detach_loops(env, "tank")
        restore(env)
        held_back = fix(env)
        assert "its thin ids cannot be read" in held_back.out, "there is no direct I/O on tmpfs"
        (command,) = re.findall(r"`(losetup [^`]*)`", held_back.out)
        run(*shlex.split(command))
        assert f"but {env.key('live')} would then be made anew, empty" in fix(env).out
        (live,) = ids.keys() - {0, g, i}
        env.declare(*named, adopting(env, "live", live), file="new.yaml")
        assert "1 repair done" in fix(env).out
        applied(env)
        assert env.thin_ids() == ids

        env.declare(adopting(env, "i", i), file="new.yaml")
        applied(env)
        with env.mounted("i") as point:
            assert (point / "file").read_text() == "kept"


def make_all_with_a_copy_between(env: Environment) -> None:
    env.declare(env.pool(), env.device("a"))
    applied(env)
    shutil.copytree(env.state, env.root / "copy")
    ext4: dict[str, Any] = {"filesystem": {"type": "ext4"}}
    others = env.device("g", state="Committed", **ext4), env.device("live")
    env.declare(*others, env.device("i", **ext4), file="new.yaml")
    applied(env)
    with env.mounted("i") as point:
        (point / "file").write_text("kept")
    env.declare(*others, env.device("i", state="Inactive", **ext4), file="new.yaml")
    applied(env)


def restore(env: Environment) -> None:
    shutil.rmtree(env.state)
    shutil.copytree(env.root / "copy", env.state)


def fix(env: Environment) -> Run:
    return say(env, "doctor", "--fix", "--yes", "--manifests", str(env.manifests))


def adopting(env: Environment, name: str, number: int, **spec: str) -> dict[str, Any]:
    filesystem: dict[str, Any] = {} if name == "live" else {"filesystem": {"type": "ext4"}}
    adopt = {"deviceId": number, "dmName": env.dm_name(name)}
    return env.device(name, size="16MiB", adopt=adopt, **filesystem, **spec)

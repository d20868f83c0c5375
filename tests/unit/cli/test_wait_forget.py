"""`wait` and `forget`: what scripts call, and what people should think about before they do."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reconciler.cli import console, wait
from reconciler.cli.main import cli
from reconciler.model.conditions import Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.steps import BeginIntent
from reconciler.model.stored import Intent, IntentKind
from reconciler.model.units import Sectors
from reconciler.store.lock import StateLock
from reconciler.store.store import Store

Dm = Callable[..., Any]


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the host's device nodes would be."""
    folder = tmp_path / "mapper"
    folder.mkdir()
    for name in ("tank", "tank-web"):
        (folder / name).touch()
    monkeypatch.setattr(wait, "NODES", folder)
    return folder


@pytest.mark.parametrize("args", [("device", "tank/web"), ("device", "base"), ("pool", "tank")])
def test_what_is_ready_is_not_waited_for(dm: Dm, nodes: Path, args: tuple[str, str]) -> None:
    assert nodes.is_dir()
    assert dm("wait", *args, "--timeout", "0") == (0, "", "")


def test_what_does_not_get_ready_in_time_is_told_with_its_reason(dm: Dm) -> None:
    said = dm("wait", "device", "data", "--timeout", "300ms")
    assert said.code == 4
    reason = "Busy: it cannot be resumed while its table is being changed by somebody else"
    assert said.err.splitlines() == [
        f"waiting for device data: {reason}",
        f"dm-reconciler: device data is not ready after 0.3s: {reason}",
    ]


def test_the_store_is_not_believed_where_the_node_is_missing(dm: Dm, nodes: Path) -> None:
    """As after a reboot, until the daemon runs again."""
    (nodes / "tank-web").unlink()
    said = dm("wait", "device", "tank/web", "--timeout", "0")
    assert said.code == 4
    assert "tank-web is not there" in said.err


def test_it_ends_as_soon_as_it_is_ready(dm: Dm, store: Store, nodes: Path) -> None:
    (nodes / "tank-data").touch()
    status = store.statuses()[Key("tank", "data")]

    def heal() -> None:
        store.put_statuses([replace(status, live=LiveState.ACTIVE, reason=Reason.CONVERGED)])

    healing = threading.Timer(0.5, heal)
    healing.start()
    begun = time.monotonic()
    assert dm("wait", "device", "data", "--timeout", "30s").code == 0
    assert time.monotonic() - begun < 10
    healing.join()


def test_a_record_and_a_store_that_are_not_there_yet_are_waited_for(dm: Dm, tmp_path: Path) -> None:
    missing = dm("wait", "device", "tank/later", "--timeout", "0")
    assert (missing.code, "there is no such record yet" in missing.err) == (4, True)
    nothing = dm("wait", "device", "tank/web", "--timeout", "300ms", "--state-dir", str(tmp_path / "none"))
    assert (nothing.code, "the daemon has not run yet" in nothing.err) == (1, True)


def test_a_name_that_fits_several_is_not_waited_for(dm: Dm) -> None:
    assert dm("wait", "device", "web").code == 2


def test_forgetting_drops_what_the_store_knows_and_says_what_stays(dm: Dm, state_dir: Path, store: Store) -> None:
    store.close()
    said = dm("forget", "device", "data", "--yes")
    assert said.code == 0
    assert "Its data stays in pool tank as thin id 3" in said.out
    assert "tank/data was still declared (/etc/dm-reconciler/tank.yaml:27)" in said.err
    with Store.open_read_only(state_dir) as after:
        assert "data" not in after.known_devices("tank")
        assert 3 in after.taken("tank")
        assert Key("tank", "data") not in after.statuses()
        assert after.events()[-1][1].reason == "Forgotten"


def test_a_pool_is_forgotten_with_its_devices(dm: Dm, state_dir: Path, store: Store) -> None:
    store.close()
    said = dm("forget", "pool", "tank", "--yes")
    assert said.code == 0
    assert "with the pool, its devices are forgotten: base, data, new, old, web" in said.err
    assert "/srv/tank.data and /srv/tank.meta" in said.out
    with Store.open_read_only(state_dir) as after:
        assert set(after.known_pools()) == {"vault"}
        assert {key.pool for key in after.statuses()} == {"vault"}


def test_what_is_under_way_is_finished_first(dm: Dm, state_dir: Path, store: Store) -> None:
    key = Key("tank", "new")
    store.apply(BeginIntent(key, Intent(key, IntentKind.CREATE, 9, 4, "DMR-x", "tank-new", Sectors(2048))))
    store.close()
    for args in (("device", "new"), ("pool", "tank")):
        said = dm("forget", *args, "--yes")
        assert (said.code, "create" in said.err, "then forget it" in said.err) == (1, True, True)
    with Store.open_read_only(state_dir) as after:
        assert after.intents("tank")


def test_nobody_is_asked_where_nobody_is(dm: Dm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    said = dm("forget", "device", "data")
    assert (said.code, "--yes" in said.err) == (2, True)


@pytest.mark.parametrize(("answer", "forgotten"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_only_a_yes_is_a_yes(
    store: Store, state_dir: Path, monkeypatch: pytest.MonkeyPatch, answer: str, forgotten: bool
) -> None:
    store.close()
    monkeypatch.setattr(console, "_somebody_is_there", lambda: True)
    done = CliRunner().invoke(cli, ["forget", "--state-dir", str(state_dir), "device", "data"], input=answer)
    assert (done.exit_code == 0) == forgotten
    assert "Forget device tank/data? [y/N]" in done.output
    with Store.open_read_only(state_dir) as after:
        assert ("data" not in after.known_devices("tank")) == forgotten


def test_beside_a_daemon_it_says_who_has_the_store(dm: Dm, state_dir: Path, store: Store) -> None:
    code = (
        "import sys, pathlib; from reconciler.store.lock import StateLock\n"
        "lock = StateLock(pathlib.Path(sys.argv[1])); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(state_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "held\n"
        said = dm("forget", "device", "data", "--yes")
        assert (said.code, f"is in use by process {daemon.pid}" in said.err) == (1, True)
        daemon.communicate("")
    assert "data" in store.known_devices("tank")


def test_the_lock_is_given_back(dm: Dm, state_dir: Path, store: Store) -> None:
    store.close()
    assert dm("forget", "device", "data", "--yes").code == 0
    with StateLock(state_dir):
        pass

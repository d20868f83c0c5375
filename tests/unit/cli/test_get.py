"""`get`: tables for people and pipes, JSON and YAML for programs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.model.conditions import Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.store.store import Store

Dm = Callable[..., Any]
ENTRY = "import sys; from reconciler.cli.main import main; sys.exit(main())"


def test_without_a_kind_pools_and_devices_are_two_tables(dm: Dm) -> None:
    said = dm("get")
    assert said.code == 0
    assert said.lines[0].split() == ["NAME", "DESIRED", "LIVE", "READY", "REASON", "SIZE", "MAPPED", "USED"]
    assert said.lines[1].split() == ["tank", "Active", "Active", "yes", "Converged", "20GiB", "3.2GiB", "16%"]
    assert said.lines[3] == ""
    assert said.lines[4].split() == ["NAME", "POOL", "DESIRED", "LIVE", "READY", "REASON", "SIZE", "MAPPED"]
    assert len(said.lines) == 5 + 6


def test_each_record_is_a_line_whose_columns_are_never_empty(dm: Dm) -> None:
    rows = [line.split() for line in dm("get", "devices").lines]
    assert {len(row) for row in rows} == {8}
    assert ["data", "tank", "Active", "Suspended", "no", "Busy", "4GiB", "1GiB"] in rows
    assert ["new", "tank", "Active", "-", "-", "-", "-", "-"] in rows
    assert ["old", "tank", "-", "Inactive", "no", "Orphaned", "4GiB", "-"] in rows


def test_wide_adds_names_ids_and_the_message(dm: Dm) -> None:
    said = dm("get", "devices", "-o", "wide")
    assert "DM-NAME" in said.lines[0]
    (line,) = [line for line in said.lines if line.startswith("data")]
    assert "tank-data   3" in line
    assert line.endswith("it cannot be resumed while its table is being changed by somebody else")
    assert "16%    1%         rw     4             6" in dm("get", "pools", "-o", "wide").out


@pytest.mark.parametrize("name", ["tank/data", "data"])
def test_a_device_is_named_with_its_pool_or_alone_where_that_is_unique(dm: Dm, name: str) -> None:
    assert len(dm("get", "device", name).lines) == 2


def test_a_name_that_fits_several_is_wrong_usage_and_tells_them(dm: Dm) -> None:
    assert dm("get", "devices", "web")[::2] == (
        2,
        "dm-reconciler: there are several devices web: write one of tank/web, vault/web\n",
    )


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("devices", "tank/dta", "there is no device tank/dta: did you mean tank/data?"),
        ("pools", "tnk", "there is no pool tnk: did you mean tank?"),
        ("pools", "tank/data", "tank/data is a device, not a pool: name it as that"),
        ("pools", "xyzzy", "there is no pool xyzzy: `dm-reconciler get pools` lists those that there are"),
        ("devices", "xyzzy", "there is no device xyzzy: `dm-reconciler get devices` lists those that there are"),
    ],
)
def test_an_unknown_name_is_one_line(dm: Dm, kind: str, name: str, said: str) -> None:
    assert dm("get", kind, name) == (1, "", f"dm-reconciler: {said}\n")


def test_json_has_the_one_shape(dm: Dm) -> None:
    items = json.loads(dm("get", "-o", "json").out)["items"]
    assert [one["metadata"]["name"] for one in items][:3] == ["tank", "tank/base", "tank/data"]
    data, new, old = (
        next(one for one in items if one["metadata"]["name"] == name) for name in ("tank/data", "tank/new", "tank/old")
    )
    assert data["kind"] == "ThinDevice"
    assert data["spec"] == {"pool": "tank", "size": "4GiB", "filesystem": {"type": "ext4"}}
    assert (data["status"]["live"], data["status"]["ready"], data["status"]["mappedBytes"]) == (
        "Suspended",
        False,
        2**30,
    )
    assert new["status"] is None
    assert old["spec"] is None


def test_yaml_says_the_same_as_json(dm: Dm) -> None:
    assert yaml.safe_load(dm("get", "-o", "yaml").out) == json.loads(dm("get", "-o", "json").out)


def test_without_a_store_it_says_what_to_start(dm: Dm, tmp_path: Path) -> None:
    said = dm("get", "--state-dir", str(tmp_path / "none"))
    assert said.code == 1
    assert "the daemon has not run yet: start `dm-reconciler run --manifests DIR`" in said.err


def test_a_store_without_records_is_no_fault(dm: Dm, tmp_path: Path) -> None:
    with Store.open(tmp_path / "fresh", wall_clock=time.time):
        assert dm("get", "--state-dir", str(tmp_path / "fresh")).out == ""
        assert dm("get", "--state-dir", str(tmp_path / "fresh"), "-o", "json").out == '{\n  "items": []\n}\n'


def test_messages_move_nobodys_cursor_and_stay_on_their_line(dm: Dm, store: Store) -> None:
    status = store.statuses()[Key("tank", "data")]
    store.put_statuses([replace(status, message="\x1b[2Jtwo\nlines \udcff")])
    (line,) = [line for line in dm("get", "devices", "-o", "wide").lines if line.startswith("data")]
    assert line.endswith("\\x1b[2Jtwo lines \\udcff")


def test_watch_prints_what_changes(dm: Dm, store: Store, state_dir: Path) -> None:
    del dm
    args = ["get", "devices", "--watch", "-o", "json", "--state-dir", str(state_dir)]
    with subprocess.Popen([sys.executable, "-c", ENTRY, *args], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert len(json.loads(watching.stdout.readline())["items"]) == 6
        status = store.statuses()[Key("tank", "data")]
        store.put_statuses([replace(status, live=LiveState.ACTIVE, reason=Reason.CONVERGED)])
        (changed,) = json.loads(watching.stdout.readline())["items"]
        watching.terminate()
    assert (changed["metadata"]["name"], changed["status"]["ready"]) == ("tank/data", True)

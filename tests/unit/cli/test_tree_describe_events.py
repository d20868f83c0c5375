"""`tree`, `describe` and `events`: the store's knowledge, told to people."""

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

from reconciler.model.conditions import DeviceStatus, Event, EventType
from reconciler.model.names import Key
from reconciler.model.steps import BeginIntent
from reconciler.model.stored import Intent, IntentKind
from reconciler.model.units import Sectors
from reconciler.store.store import Store

Dm = Callable[..., Any]
ENTRY = "import sys; from reconciler.cli.main import main; sys.exit(main())"


def test_the_tree_shows_snapshots_below_their_origins_with_marks(dm: Dm) -> None:
    assert dm("tree").lines == [
        "[ok] tank Active, 3.2GiB of 20GiB",
        "  [ok] base Committed, 10GiB",
        "    [ok] web Active, 10GiB, 64KiB mapped",
        "  [!!] data Suspended, desired Active, Busy, 4GiB, 1GiB mapped",
        "  [??] new desired Active, not looked at yet",
        "  [--] old Inactive, Orphaned, 4GiB",
        "[--] vault Active, Paused, 1GiB of 2GiB",
        "  [--] web Active, Paused",
    ]


def test_the_tree_shows_everything_once_whatever_the_origins_say(dm: Dm, store: Store) -> None:
    """Origins that have retired, and such as contradict each other as they were seen at different times."""
    statuses = store.statuses()
    for name, origin in (("base", "web"), ("data", "golden"), ("old", "old")):
        status = statuses[Key("tank", name)]
        assert isinstance(status, DeviceStatus)
        store.put_statuses([replace(status, origin=origin)])
    lines = dm("tree").lines
    assert len(lines) == 8
    assert "4GiB, 1GiB mapped, snapshot of golden, which is gone" in "\n".join(lines)


def test_describe_tells_everything_of_a_device(dm: Dm) -> None:
    said = dm("describe", "device", "data")
    assert said.code == 0
    for line in (
        "  Name:      tank/data",
        "  Declared:  /etc/dm-reconciler/tank.yaml:27",
        "               type: ext4",
        "  Live:     Suspended",
        "  Reason:   Busy",
        "  Beneath:  Suspended, which is not healed meanwhile",
        "  Held by:  mounted on /mnt/data",
        "            process 4711 (postgres)",
        "  Thin id:  3, created at transaction 3",
        "Events:",
    ):
        assert line in said.lines
    assert said.lines[-1].endswith("resume tank-data failed (EBUSY)")


def test_describe_tells_everything_of_a_pool_and_what_is_under_way(dm: Dm, store: Store) -> None:
    key = Key("tank", "new")
    store.apply(BeginIntent(key, Intent(key, IntentKind.CREATE, 9, 4, "DMR-x", "tank-new", Sectors(2048))))
    said = dm("describe", "pool", "tank")
    assert "  Devices:   base, data, new, old, web" in said.lines
    assert "  Data:         3.2GiB of 20GiB used (16%)" in said.lines
    assert "  Under way:    create of tank/new, thin id 9, transaction 4" in said.lines
    assert said.lines[-1] == "Events: none"
    assert "thin id 9" in dm("describe", "device", "new").out


def test_describe_as_json_is_an_item_with_more(dm: Dm) -> None:
    (item,) = json.loads(dm("describe", "device", "tank/data", "-o", "json").out)["items"]
    assert item["status"]["holders"] == ["mounted on /mnt/data", "process 4711 (postgres)"]
    assert item["record"] == {"file": "/etc/dm-reconciler/tank.yaml", "line": 27}
    assert (item["known"]["deviceId"], item["known"]["createdAt"]) == (3, 3)
    assert [event["type"] for event in item["events"]] == ["Found", "Failed"]


def test_events_are_told_newest_last(dm: Dm) -> None:
    lines = dm("events").lines
    assert lines[0].split() == ["TIME", "TYPE", "OBJECT", "REASON", "COUNT", "MESSAGE"]
    assert [line.split()[2] for line in lines[1:]] == ["Found", "Healed", "Found", "Failed"]
    assert lines[2].endswith("removed tank-base (after 0.25s)")


@pytest.mark.parametrize(("name", "count"), [("tank", 4), ("tank/base", 2), ("base", 2), ("vault", 0)])
def test_events_of_a_pool_are_those_of_its_devices_too(dm: Dm, name: str, count: int) -> None:
    said = dm("events", "-o", "json", name)
    assert len(json.loads(said.out)["items"]) == count


def test_events_of_what_is_long_gone_can_be_asked_for(dm: Dm, store: Store) -> None:
    store.add_event(Event(Key("gone", "x"), EventType.INFO, "Deleted", "", time.time()))
    assert len(dm("events", "gone/x").lines) == 2
    assert dm("events", "gone/y").code == 1


def test_the_last_so_many_events(dm: Dm) -> None:
    assert [line.split()[2] for line in dm("events", "-n", "1").lines[1:]] == ["Failed"]
    assert dm("events", "-n", "0") == (0, "", "no events yet\n")


def test_following_events_gives_one_object_a_line(dm: Dm, store: Store, state_dir: Path) -> None:
    del dm
    args = ["events", "--follow", "-o", "json", "-n", "1", "--state-dir", str(state_dir), "tank"]
    with subprocess.Popen([sys.executable, "-c", ENTRY, *args], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["type"] == "Failed"
        store.add_event(Event(Key("vault"), EventType.FOUND, "PoolLow", "not asked for", time.time()))
        store.add_event(Event(Key("tank"), EventType.FOUND, "PoolLow", "asked for", time.time()))
        assert json.loads(following.stdout.readline())["message"] == "asked for"
        following.terminate()

"""`plan`, `apply` and `wait` on a real kernel, without a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.testing.environment import House, a_house
from tests.testing.real_kernel import run

CONVERGED, NOT_DONE, NOT_AS_DESIRED = 0, 1, 4


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(
            house.pool(),
            house.device("base", state="Committed", filesystem={"type": "ext4"}),
            house.device("app", snapshotOf="base"),
            house.device("twin", snapshotOf="app"),
        )
        yield house


def plan(house: House, *names: str) -> tuple[int, list[dict[str, object]]]:
    said = house.cli("plan", "--manifests", str(house.manifests), "-o", "json", *names, check=False)
    assert not said.err, said
    items: list[dict[str, object]] = json.loads(said.out)["items"]
    return said.code, items


def test_a_plan_shows_everything_and_does_nothing(house: House) -> None:
    before = run("dmsetup", "table").out
    code, items = plan(house)
    assert code == NOT_AS_DESIRED
    assert run("dmsetup", "table").out == before
    assert not house.state.exists()
    steps = {item["metadata"]["name"]: item["steps"] for item in items}  # type: ignore[index]
    assert steps == {
        f"{house.prefix}tank": ["make_file", "attach_loop", "make_file", "attach_loop", "activate_pool"],
        house.key("base"): ["create_thin", "set_transaction_id", "mkfs"],
        house.key("app"): ["create_snap", "set_transaction_id", "activate"],
        house.key("twin"): ["create_snap", "set_transaction_id", "activate"],
    }


def test_apply_does_what_the_plan_showed_and_then_nothing_is_left(house: House) -> None:
    said = house.cli("apply", "--manifests", str(house.manifests))
    assert said.code == CONVERGED
    assert "create_snap" in said.out
    assert house.dm.info(house.dm_name("app")) is not None
    assert house.dm.info(house.dm_name("twin")) is not None
    assert house.dm.info(house.dm_name("base")) is None
    assert plan(house)[0] == CONVERGED


def test_describe_says_where_the_record_is_written(house: House) -> None:
    (item,) = json.loads(house.cli("describe", "device", house.key("base"), "-o", "json").out)["items"]
    place = item["record"]
    lines = (house.manifests / "all.yaml").read_text(encoding="utf-8").splitlines()
    assert place["file"] == str(house.manifests / "all.yaml")
    assert lines.index("---") == place["line"] - 2, "it is the second record"
    assert f"Declared:  {place['file']}:{place['line']}" in house.cli("describe", "device", house.key("base")).out


def test_a_named_device_is_mended_and_another_is_left(house: House) -> None:
    house.cli("apply", "--manifests", str(house.manifests))
    for name in ("app", "twin"):
        run("dmsetup", "remove", house.dm_name(name))
    house.cli("apply", "--manifests", str(house.manifests), house.key("app"))
    assert house.dm.info(house.dm_name("app")) is not None
    assert house.dm.info(house.dm_name("twin")) is None


def test_an_unknown_name_is_told_in_one_line(house: House) -> None:
    said = house.cli("apply", "--manifests", str(house.manifests), "nobody/nothing", check=False)
    assert said.code == NOT_DONE
    assert "nobody/nothing" in said.err
    assert len(said.err.splitlines()) == 1


def test_apply_returns_at_once_when_only_a_person_can_go_on(house: House) -> None:
    house.declare(house.pool(), house.device("base", state="Active"))
    said = house.cli("apply", "--manifests", str(house.manifests), "--timeout", "10m", check=False, timeout=100)
    assert said.code == NOT_AS_DESIRED
    assert "InvalidChange" in said.err
    assert "snapshot" in said.err


def test_wait_tells_when_a_device_is_ready_and_why_it_is_not(house: House) -> None:
    house.declare(house.pool(), house.device("base", state="Committed"), house.device("app", snapshotOf="base"))
    house.cli("apply", "--manifests", str(house.manifests))
    assert house.cli("wait", "device", house.key("app"), "--timeout", "10s").code == CONVERGED
    assert house.cli("wait", "device", house.key("nobody"), "--timeout", "1s", check=False).code != CONVERGED

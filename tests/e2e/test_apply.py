"""`plan`, `apply` and `wait` on a real kernel, without a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, an_environment
from tests.testing.real_kernel import run

CONVERGED, NOT_DONE, NOT_AS_DESIRED = 0, 1, 4


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(
            env.pool(),
            env.device("base", state="Committed", filesystem={"type": "ext4"}),
            env.device("app", snapshotOf="base"),
            env.device("twin", snapshotOf="app"),
        )
        yield env


def plan(env: Environment, *names: str) -> tuple[int, list[dict[str, object]]]:
    said = env.cli("plan", "--manifests", str(env.manifests), "-o", "json", *names, check=False)
    assert not said.err, said
    items: list[dict[str, object]] = json.loads(said.out)["items"]
    return said.code, items


def test_a_plan_shows_everything_and_does_nothing(env: Environment) -> None:
    before = run("dmsetup", "table").out
    code, items = plan(env)
    assert code == NOT_AS_DESIRED
    assert run("dmsetup", "table").out == before
    assert not env.state.exists()
    steps = {item["metadata"]["name"]: item["steps"] for item in items}  # type: ignore[index]
    assert steps == {
        f"{env.prefix}tank": ["make_file", "attach_loop", "make_file", "attach_loop", "activate_pool"],
        env.key("base"): ["create_thin", "set_transaction_id", "mkfs"],
        env.key("app"): ["create_snap", "set_transaction_id", "activate"],
        env.key("twin"): ["create_snap", "set_transaction_id", "activate"],
    }


def test_apply_does_what_the_plan_showed_and_then_nothing_is_left(env: Environment) -> None:
    said = env.cli("apply", "--manifests", str(env.manifests))
    assert said.code == CONVERGED
    assert "create_snap" in said.out
    assert env.dm.info(env.dm_name("app")) is not None
    assert env.dm.info(env.dm_name("twin")) is not None
    assert env.dm.info(env.dm_name("base")) is None
    assert plan(env)[0] == CONVERGED


def test_describe_says_where_the_record_is_written(env: Environment) -> None:
    (item,) = json.loads(env.cli("describe", "device", env.key("base"), "-o", "json").out)["items"]
    place = item["record"]
    lines = (env.manifests / "all.yaml").read_text(encoding="utf-8").splitlines()
    assert place["file"] == str(env.manifests / "all.yaml")
    assert lines.index("---") == place["line"] - 2, "it is the second record"
    assert f"Declared:  {place['file']}:{place['line']}" in env.cli("describe", "device", env.key("base")).out


def test_a_named_device_is_mended_and_another_is_left(env: Environment) -> None:
    env.cli("apply", "--manifests", str(env.manifests))
    for name in ("app", "twin"):
        run("dmsetup", "remove", env.dm_name(name))
    env.cli("apply", "--manifests", str(env.manifests), env.key("app"))
    assert env.dm.info(env.dm_name("app")) is not None
    assert env.dm.info(env.dm_name("twin")) is None


def test_an_unknown_name_is_told_in_one_line(env: Environment) -> None:
    said = env.cli("apply", "--manifests", str(env.manifests), "nobody/nothing", check=False)
    assert said.code == NOT_DONE
    assert "nobody/nothing" in said.err
    assert len(said.err.splitlines()) == 1


def test_apply_returns_at_once_when_only_a_person_can_go_on(env: Environment) -> None:
    env.declare(env.pool(), env.device("base", state="Active"))
    said = env.cli("apply", "--manifests", str(env.manifests), "--timeout", "10m", check=False, timeout=100)
    assert said.code == NOT_AS_DESIRED
    assert "InvalidChange" in said.err
    assert "snapshot" in said.err


def test_wait_tells_when_a_device_is_ready_and_why_it_is_not(env: Environment) -> None:
    env.declare(env.pool(), env.device("base", state="Committed"), env.device("app", snapshotOf="base"))
    env.cli("apply", "--manifests", str(env.manifests))
    assert env.cli("wait", "device", env.key("app"), "--timeout", "10s").code == CONVERGED
    assert env.cli("wait", "device", env.key("nobody"), "--timeout", "1s", check=False).code != CONVERGED

"""Steps that the kernel answers with OK and that change nothing, and what somebody breaks again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start()
        env.wait_pool()
        yield env


def is_read_only(name: str) -> bool:
    """As the kernel has it. Its node may be away for a moment, as udev's rules drop it while the flag changes."""
    disk = next(each.parents[1] for each in Path("/sys/block").glob("dm-*/dm/name") if each.read_text().strip() == name)
    return (disk / "ro").read_text().strip() == "1"


def activations(env: Environment) -> dict[str, float]:
    """By their result: those fail that are gone again before anybody could look."""
    name = "dm_reconciler_actions_total"
    return {result: env.metric(name, action="activate", result=result) for result in ("success", "error")}


def swaps(env: Environment) -> float:
    return env.metric("dm_reconciler_actions_total", action="load", result="success")


def test_what_blockdev_made_read_only_can_be_written_again(env: Environment) -> None:
    env.have("flag")
    node, before = env.node("flag"), swaps(env)
    run("blockdev", "--setro", str(node))
    eventually(lambda: not is_read_only(node.name), "it can be written")
    env.wait("flag")
    run("dd", "if=/dev/zero", f"of={node}", "bs=64k", "count=1", "oflag=direct")
    time.sleep(3)  # in which it would be loaded again and again
    assert swaps(env) == before, "no table has to be loaded for it"
    assert env.told("flag", "Found", "WrongTable")


def test_a_filesystem_that_is_mounted_meanwhile_goes_on(env: Environment, tmp_path: Path) -> None:
    env.have("disk", size="32MiB", filesystem={"type": "ext4"})
    node, before = env.node("disk"), swaps(env)
    run("mount", str(node), str(tmp_path))
    try:
        run("blockdev", "--setro", str(node))
        eventually(lambda: not is_read_only(node.name), "it can be written")
        (tmp_path / "file").write_text("written", encoding="utf-8")
        run("sync", "--file-system", str(tmp_path / "file"))
        assert swaps(env) == before
    finally:
        run("umount", str(tmp_path))
    env.wait("disk")


def test_a_table_that_is_read_only_is_swapped_and_its_flag_cleared(env: Environment) -> None:
    env.have("both")
    name, node = env.dm_name("both"), env.node("both")
    with env.asleep():
        run("dmsetup", "load", name, "--readonly", "--table", env.table("both"))
        run("dmsetup", "resume", name)
        run("blockdev", "--setro", str(node))
    eventually(lambda: not is_read_only(node.name), "it can be written")
    eventually(node.exists, "its node is there")
    env.wait("both")


def test_the_pools_own_flag_is_cleared(env: Environment) -> None:
    node = Path("/dev/mapper", f"{env.prefix}tank")
    run("blockdev", "--setro", str(node))
    eventually(lambda: not is_read_only(node.name), "it can be written")
    env.wait_pool()


def test_what_is_removed_again_and_again_does_not_keep_the_host_busy(env: Environment) -> None:
    env.have("ball")
    name = env.dm_name("ball")
    before = activations(env)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        run("dmsetup", "remove", name, check=False)
        time.sleep(0.02)
    done = {result: count - before[result] for result, count in activations(env).items()}
    assert sum(done.values()) >= 1
    assert max(done.values()) <= 10 + 20 / 5 + 2, done
    eventually(lambda: env.status("ball")["reason"] == "Converged", "it is there again", 60)


def test_another_filesystem_is_not_noted_as_grown(env: Environment) -> None:
    env.have("other", size="32MiB", filesystem={"type": "ext4"})
    node = env.node("other")
    with env.asleep():
        run("wipefs", "--all", str(node))
    env.change("other", size="64MiB", filesystem={"type": "ext4"})
    status = env.wait("other", "InvalidChange")
    assert "it holds no filesystem that is known, not ext4: nothing was grown" in status["message"]
    said = env.cli("describe", "device", env.key("other")).out
    assert "nothing was grown" in said
    assert [event["type"] for event in env.events(env.key("other")) if "nothing was grown" in event["message"]]

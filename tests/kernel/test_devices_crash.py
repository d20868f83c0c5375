"""Killed at any instant, the next start converges: nothing leaked, nothing half-made in use, nothing left suspended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.conftest import run
from tests.kernel.inprocess import Bench, Killed, a_bench

MOST = 60
"""Instants that an operation can have; it ends long before."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with a_bench(grace=0.3) as bench:
        bench.declare("origin", filesystem={"type": "ext4"})
        bench.wait("origin")
        yield bench


def dies(bench: Bench, instant: int) -> bool:
    """Run until death at that instant, if the work at hand has so many; then begin anew."""
    bench.dm.dies_at = instant
    try:
        for _ in range(3):
            bench.turn()
    except Killed:
        bench.end()
        bench.begin()
        return True
    bench.dm.dies_at = None
    return False


def assert_whole(bench: Bench) -> None:
    assert bench.ids() == bench.known_ids(), "nothing leaked, nothing lost"
    assert bench.store.intents(bench.name) == ()
    for listed in bench.house.dm.list_all():
        if listed.name.startswith(bench.house.prefix):
            info = bench.house.dm.info(listed.name)
            assert info is not None
            assert not info.suspended
            assert info.live_table
            assert not listed.name.endswith(".private")


@pytest.mark.parametrize(
    "spec",
    [{}, {"snapshotOf": "origin"}, {"state": "Committed", "filesystem": {"type": "ext4"}}],
    ids=["new", "snapshot of what is live", "with a filesystem"],
)
def test_while_it_makes_a_device(bench: Bench, spec: dict[str, Any]) -> None:
    for instant in range(MOST):
        bench.declare("made", **spec)
        died = dies(bench, instant)
        bench.turn()
        origin = bench.house.info("origin")
        assert origin is not None
        assert not origin.suspended, "what the dead one suspended is resumed at once, without a grace"
        bench.wait("made")
        bench.wait("origin")
        assert_whole(bench)
        if spec.get("snapshotOf"):
            assert run("e2fsck", "-fn", str(bench.house.node("made"))).code == 0
        bench.declare("made", state="Absent")
        bench.until(lambda: "made" not in bench.store.known_devices(bench.name), "it is gone")
        if not died:
            assert instant > 3, "it died at several instants"
            break
    else:
        pytest.fail("it never ended")


@pytest.mark.parametrize("discard", [False, True], ids=["plain", "with a discard"])
def test_while_it_deletes_a_device(bench: Bench, discard: bool) -> None:
    for instant in range(MOST):
        bench.declare("gone")
        bench.wait("gone")
        bench.declare("gone", state="Absent", discardOnDelete=discard)
        died = dies(bench, instant)
        bench.until(lambda: "gone" not in bench.store.known_devices(bench.name), "it is gone")
        bench.wait("origin")
        assert bench.house.info("gone") is None
        assert_whole(bench)
        if not died:
            assert instant > 3, "it died at several instants"
            break
    else:
        pytest.fail("it never ended")


def test_while_it_grows_a_device_with_its_filesystem(bench: Bench) -> None:
    for size, instant in enumerate(range(MOST), start=1):
        bench.declare("origin", size=f"{16 + size}MiB", filesystem={"type": "ext4"})
        died = dies(bench, instant)
        bench.wait("origin")
        assert bench.house.table("origin").startswith(f"0 {(16 + size) * 2048} thin ")
        said = run("dumpe2fs", "-h", str(bench.house.node("origin"))).out
        blocks = next(line.split()[-1] for line in said.splitlines() if line.startswith("Block count:"))
        assert int(blocks) * 4096 == (16 + size) * 1024 * 1024
        assert_whole(bench)
        if not died:
            assert instant > 0, "it died at several instants"
            break
    else:
        pytest.fail("it never ended")

"""Rollback: when the making of a snapshot fails half-way, nothing remains of it and its name can be used at once."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.testing.inprocess import Bench, a_bench
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    # With such a grace, what is resumed is resumed because the reconciler itself suspended it.
    with a_bench(grace=3600.0) as bench:
        bench.declare("origin")
        bench.wait("origin")
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """With nothing in it but the origin, which is live."""
    yield shared
    shared.dm.heal()
    for name in set(shared.records) - {"", "origin"}:
        shared.declare(name, state="Absent", size="16MiB")
        shared.until(lambda: shared.store.known_devices(shared.name).keys() == {"origin"}, "what was made is gone")
        shared.withdraw(name)
    shared.wait("origin")


def assert_nothing_remains(bench: Bench, name: str) -> None:
    assert bench.ids() == bench.known_ids(), "the pool holds what the store knows, and nothing more"
    assert name not in bench.store.known_devices(bench.name)
    assert bench.store.intents(bench.name) == ()
    prefix = bench.house.dm_name(name)
    assert not [listed.name for listed in bench.house.dm.list_all() if listed.name.startswith(prefix)]


def await_rollback(bench: Bench, name: str) -> None:
    bench.turn()
    bench.until(lambda: not bench.store.intents(bench.name), "it is rolled back")
    assert_nothing_remains(bench, name)


def is_suspended(bench: Bench, name: str) -> bool:
    info = bench.house.info(name)
    assert info is not None
    return info.suspended


def test_the_resume_of_the_origin_fails(bench: Bench) -> None:
    bench.dm.fail("resume", bench.house.dm_name("origin"), number=errno.EINVAL)
    bench.declare("snap", snapshotOf="origin")
    await_rollback(bench, "snap")
    assert is_suspended(bench, "origin"), "the kernel does not let it go"
    for _ in range(3):
        bench.turn()
    assert_nothing_remains(bench, "snap")
    assert is_suspended(bench, "origin")
    bench.dm.heal()
    bench.until(lambda: not is_suspended(bench, "origin"), "the origin is resumed, without a grace")
    bench.wait("snap")
    assert not is_suspended(bench, "origin")
    assert bench.house.table("snap")


def test_the_resume_of_the_origin_fails_once(bench: Bench) -> None:
    fault = bench.dm.fail("resume", bench.house.dm_name("origin"), number=errno.EINVAL, times=1)
    bench.declare("snap", snapshotOf="origin")
    bench.wait("snap")
    assert fault.times == 0, "it did fail"
    assert not is_suspended(bench, "origin")
    assert bench.ids() == bench.known_ids()


def test_the_name_can_be_used_for_something_else_at_once(bench: Bench) -> None:
    bench.dm.fail("resume", bench.house.dm_name("origin"), number=errno.EINVAL)
    bench.declare("snap", snapshotOf="origin")
    await_rollback(bench, "snap")
    bench.declare("snap", size="32MiB")  # no snapshot any more
    bench.wait("snap")
    assert bench.house.table("snap").startswith("0 65536 thin ")
    bench.dm.heal()
    bench.until(lambda: not is_suspended(bench, "origin"), "the origin is resumed")
    assert bench.ids() == bench.known_ids()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOMEM])
def test_the_taking_itself_fails(bench: Bench, number: int) -> None:
    bench.dm.fail("message", bench.name, "create_snap", number=number)
    bench.declare("snap", snapshotOf="origin")
    bench.turn()
    assert not is_suspended(bench, "origin")
    assert_nothing_remains(bench, "snap")
    assert bench.reason("snap") == "KernelError"
    bench.dm.heal()
    bench.wait("snap")


def test_it_was_taken_though_the_kernel_said_that_it_failed(bench: Bench) -> None:
    bench.dm.fail("message", bench.name, "create_snap", number=errno.EINVAL, times=1, after=True)
    bench.declare("snap", snapshotOf="origin")
    bench.wait("snap")
    assert bench.ids() == bench.known_ids(), "the half-taken one is gone"


def test_the_transaction_id_cannot_be_set(bench: Bench) -> None:
    bench.dm.fail("message", bench.name, "set_transaction_id", number=errno.EINVAL)
    bench.declare("snap", snapshotOf="origin")
    await_rollback(bench, "snap")
    bench.dm.heal()
    bench.wait("snap")


def test_somebody_else_deletes_it_before_the_rollback_does(bench: Bench) -> None:
    bench.dm.fail("message", bench.name, "set_transaction_id", number=errno.EINVAL)
    bench.dm.fail("message", bench.name, "delete", number=errno.ENODATA, times=1, after=True)
    bench.declare("snap", snapshotOf="origin")
    await_rollback(bench, "snap")
    bench.dm.heal()
    bench.wait("snap")


def test_the_rollback_fails_too_and_is_ended_later(bench: Bench) -> None:
    bench.dm.fail("message", bench.name, "set_transaction_id", number=errno.EINVAL)
    bench.dm.fail("message", bench.name, "delete", number=errno.EINVAL, times=2)
    bench.declare("snap", snapshotOf="origin")
    bench.turn()
    assert bench.store.intents(bench.name), "it is not forgotten"
    bench.until(lambda: not bench.store.intents(bench.name), "it is rolled back")
    assert_nothing_remains(bench, "snap")
    bench.dm.heal()
    bench.wait("snap")


@pytest.mark.parametrize("call", ["create", "load", "resume"])
def test_its_activation_fails(bench: Bench, call: str) -> None:
    bench.dm.fail(call, bench.house.dm_name("snap"), number=errno.EINVAL)
    bench.declare("snap", snapshotOf="origin")
    bench.turn()
    assert bench.reason("snap") == "KernelError"
    assert bench.house.info("snap") is None, "no shell is left"
    assert not is_suspended(bench, "origin")
    bench.declare("snap", state="Absent")
    bench.until(lambda: not bench.store.known_devices(bench.name).keys() - {"origin"}, "it is given up")
    assert_nothing_remains(bench, "snap")
    bench.dm.heal()
    bench.declare("snap")
    bench.wait("snap")
    assert bench.house.table("snap")


def test_what_somebody_else_suspended_stays_suspended(bench: Bench) -> None:
    run("dmsetup", "suspend", bench.house.dm_name("origin"))
    bench.declare("snap", snapshotOf="origin")
    bench.wait("snap", "WaitingForOrigin")
    bench.turn()
    assert is_suspended(bench, "origin")
    assert_nothing_remains(bench, "snap")
    run("dmsetup", "resume", bench.house.dm_name("origin"))
    bench.wait("snap")

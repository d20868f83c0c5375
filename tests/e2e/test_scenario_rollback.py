"""Rollback: when the making of a snapshot fails half-way, nothing remains of it and its name can be used at once."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.testing.inline_daemon import InlineDaemon, an_inline_daemon
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def shared() -> Iterator[InlineDaemon]:
    # With such a grace, what is resumed is resumed because the reconciler itself suspended it.
    with an_inline_daemon(grace=3600.0) as inline:
        inline.declare("origin")
        inline.wait("origin")
        yield inline


@pytest.fixture
def inline(shared: InlineDaemon) -> Iterator[InlineDaemon]:
    """With nothing in it but the origin, which is live."""
    yield shared
    shared.dm.heal()
    for name in set(shared.records) - {"", "origin"}:
        shared.declare(name, state="Absent", size="16MiB")
        shared.until(lambda: shared.store.known_devices(shared.name).keys() == {"origin"}, "what was made is gone")
        shared.withdraw(name)
    shared.wait("origin")


def assert_nothing_remains(inline: InlineDaemon, name: str) -> None:
    assert inline.ids() == inline.known_ids(), "the pool holds what the store knows, and nothing more"
    assert name not in inline.store.known_devices(inline.name)
    assert inline.store.intents(inline.name) == ()
    prefix = inline.env.dm_name(name)
    assert not [listed.name for listed in inline.env.dm.list_all() if listed.name.startswith(prefix)]


def await_rollback(inline: InlineDaemon, name: str) -> None:
    inline.turn()
    inline.until(lambda: not inline.store.intents(inline.name), "it is rolled back")
    assert_nothing_remains(inline, name)


def is_suspended(inline: InlineDaemon, name: str) -> bool:
    info = inline.env.info(name)
    assert info is not None
    return info.suspended


def test_the_resume_of_the_origin_fails(inline: InlineDaemon) -> None:
    inline.dm.fail("resume", inline.env.dm_name("origin"), number=errno.EINVAL)
    inline.declare("snap", snapshotOf="origin")
    await_rollback(inline, "snap")
    assert is_suspended(inline, "origin"), "the kernel does not let it go"
    for _ in range(3):
        inline.turn()
    assert_nothing_remains(inline, "snap")
    assert is_suspended(inline, "origin")
    inline.dm.heal()
    inline.until(lambda: not is_suspended(inline, "origin"), "the origin is resumed, without a grace")
    inline.wait("snap")
    assert not is_suspended(inline, "origin")
    assert inline.env.table("snap")


def test_the_resume_of_the_origin_fails_once(inline: InlineDaemon) -> None:
    fault = inline.dm.fail("resume", inline.env.dm_name("origin"), number=errno.EINVAL, times=1)
    inline.declare("snap", snapshotOf="origin")
    inline.wait("snap")
    assert fault.times == 0, "it did fail"
    assert not is_suspended(inline, "origin")
    assert inline.ids() == inline.known_ids()


def test_the_name_can_be_used_for_something_else_at_once(inline: InlineDaemon) -> None:
    inline.dm.fail("resume", inline.env.dm_name("origin"), number=errno.EINVAL)
    inline.declare("snap", snapshotOf="origin")
    await_rollback(inline, "snap")
    inline.declare("snap", size="32MiB")  # no snapshot any more
    inline.wait("snap")
    assert inline.env.table("snap").startswith("0 65536 thin ")
    inline.dm.heal()
    inline.until(lambda: not is_suspended(inline, "origin"), "the origin is resumed")
    assert inline.ids() == inline.known_ids()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOMEM])
def test_the_taking_itself_fails(inline: InlineDaemon, number: int) -> None:
    inline.dm.fail("message", inline.name, "create_snap", number=number)
    inline.declare("snap", snapshotOf="origin")
    inline.turn()
    assert not is_suspended(inline, "origin")
    assert_nothing_remains(inline, "snap")
    assert inline.reason("snap") == "KernelError"
    inline.dm.heal()
    inline.wait("snap")


def test_it_was_taken_though_the_kernel_said_that_it_failed(inline: InlineDaemon) -> None:
    inline.dm.fail("message", inline.name, "create_snap", number=errno.EINVAL, times=1, after=True)
    inline.declare("snap", snapshotOf="origin")
    inline.wait("snap")
    assert inline.ids() == inline.known_ids(), "the half-taken one is gone"


def test_the_transaction_id_cannot_be_set(inline: InlineDaemon) -> None:
    inline.dm.fail("message", inline.name, "set_transaction_id", number=errno.EINVAL)
    inline.declare("snap", snapshotOf="origin")
    await_rollback(inline, "snap")
    inline.dm.heal()
    inline.wait("snap")


def test_somebody_else_deletes_it_before_the_rollback_does(inline: InlineDaemon) -> None:
    inline.dm.fail("message", inline.name, "set_transaction_id", number=errno.EINVAL)
    inline.dm.fail("message", inline.name, "delete", number=errno.ENODATA, times=1, after=True)
    inline.declare("snap", snapshotOf="origin")
    await_rollback(inline, "snap")
    inline.dm.heal()
    inline.wait("snap")


def test_the_rollback_fails_too_and_is_ended_later(inline: InlineDaemon) -> None:
    inline.dm.fail("message", inline.name, "set_transaction_id", number=errno.EINVAL)
    inline.dm.fail("message", inline.name, "delete", number=errno.EINVAL, times=2)
    inline.declare("snap", snapshotOf="origin")
    inline.turn()
    assert inline.store.intents(inline.name), "it is not forgotten"
    inline.until(lambda: not inline.store.intents(inline.name), "it is rolled back")
    assert_nothing_remains(inline, "snap")
    inline.dm.heal()
    inline.wait("snap")


@pytest.mark.parametrize("call", ["create", "load", "resume"])
def test_its_activation_fails(inline: InlineDaemon, call: str) -> None:
    inline.dm.fail(call, inline.env.dm_name("snap"), number=errno.EINVAL)
    inline.declare("snap", snapshotOf="origin")
    inline.turn()
    assert inline.reason("snap") == "KernelError"
    assert inline.env.info("snap") is None, "no shell is left"
    assert not is_suspended(inline, "origin")
    inline.declare("snap", state="Absent")
    inline.until(lambda: not inline.store.known_devices(inline.name).keys() - {"origin"}, "it is given up")
    assert_nothing_remains(inline, "snap")
    inline.dm.heal()
    inline.declare("snap")
    inline.wait("snap")
    assert inline.env.table("snap")


def test_what_somebody_else_suspended_stays_suspended(inline: InlineDaemon) -> None:
    run("dmsetup", "suspend", inline.env.dm_name("origin"))
    inline.declare("snap", snapshotOf="origin")
    inline.wait("snap", "WaitingForOrigin")
    inline.turn()
    assert is_suspended(inline, "origin")
    assert_nothing_remains(inline, "snap")
    run("dmsetup", "resume", inline.env.dm_name("origin"))
    inline.wait("snap")

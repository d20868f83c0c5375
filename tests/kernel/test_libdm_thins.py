"""LibDm with pools and thins on a real kernel: messages, their errnos, and the successes that are none."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import nullcontext

from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.simulated.machine import Release
from reconciler.model.dm_tables import Target
from reconciler.model.units import Sectors
from tests.testing.real_kernel import TestPool, fails, this_release

MakePool = Callable[..., TestPool]
MakeThin = Callable[..., str]


def test_loading_an_id_that_is_not_in_the_pool_is_enodata(dm: LibDm, make_pool: MakePool, prefix: str) -> None:
    pool = make_pool()
    dm.create(prefix + "t", "")
    with fails(errno.ENODATA):
        dm.load(prefix + "t", (pool.thin(5).target(),))


def test_messages_fail_with_the_errno_of_their_cause(dm: LibDm, make_pool: MakePool, make_thin: MakeThin) -> None:
    pool = make_pool(thins=(0,))
    make_thin(pool, 0)
    for text, number in (
        ("create_thin 0", errno.EEXIST),
        ("create_thin 16777216", errno.EINVAL),
        ("create_snap 1 7", errno.ENODATA),
        ("delete 7", errno.ENODATA),
        ("delete 0", errno.EBUSY),
        ("set_transaction_id 5 6", errno.EINVAL),
        ("release_metadata_snap", errno.EINVAL),
        ("nonsense", errno.EINVAL),
    ):
        with fails(number):
            dm.message(pool.name, text)


def test_messages_do_what_they_say(dm: LibDm, make_pool: MakePool) -> None:
    pool = make_pool(thins=(0,))
    dm.message(pool.name, "create_snap 1 0")
    dm.message(pool.name, "set_transaction_id 0 1")
    dm.message(pool.name, "delete 1")
    assert dm.status(pool.name)[0][1].startswith("1 ")


def test_a_message_to_a_pool_without_a_live_table_does_nothing(dm: LibDm, make_pool: MakePool, prefix: str) -> None:
    """Early kernels answer with OK, later ones with EINVAL."""
    pool = make_pool()
    dm.remove(pool.name)
    dm.create(pool.name, "")
    dm.load(pool.name, (pool.table.target(),))
    with fails(errno.EINVAL) if this_release() >= Release.V6_1_LATE else nullcontext():
        dm.message(pool.name, "create_thin 0")
    dm.resume(pool.name, hidden=True)
    dm.create(prefix + "t", "")
    with fails(errno.ENODATA):
        dm.load(prefix + "t", (pool.thin(0).target(),))


def test_a_table_that_the_target_refuses_is_einval(dm: LibDm, make_pool: MakePool, prefix: str) -> None:
    pool = make_pool()
    dm.create(prefix + "t", "")
    with fails(errno.EINVAL):
        dm.load(prefix + "t", (Target(Sectors(0), Sectors(2048), "thin", f"{pool.devno} x"),))


def test_a_thin_does_not_load_under_a_suspended_pool(dm: LibDm, make_pool: MakePool, prefix: str) -> None:
    pool = make_pool(thins=(0,))
    dm.suspend(pool.name)
    dm.create(prefix + "t", "")
    with fails(errno.EINVAL):
        dm.load(prefix + "t", (pool.thin(0).target(),))

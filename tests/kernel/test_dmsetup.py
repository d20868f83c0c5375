"""Each dmsetup command line is taken by the real dmsetup, and does what the call does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.kernel.command_lines import (
    dmsetup_clear,
    dmsetup_create,
    dmsetup_deps,
    dmsetup_info,
    dmsetup_list_all,
    dmsetup_load,
    dmsetup_message,
    dmsetup_mknodes,
    dmsetup_remove,
    dmsetup_resume,
    dmsetup_status,
    dmsetup_suspend,
    dmsetup_table,
    dmsetup_targets,
    dmsetup_versions,
)
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.model.dm_tables import Target
from reconciler.model.units import Sectors
from tests.testing.real_kernel import ERROR, TestPool, info_of, run

LONGER = Target(Sectors(2048), Sectors(8), "error", "")


def shell(line: str) -> str:
    return run("bash", "-euo", "pipefail", "-c", line).out


def test_lines_that_look_print_what_the_calls_give(
    dm: LibDm, make_pool: Callable[..., TestPool], make_thin: Callable[..., str]
) -> None:
    pool = make_pool(thins=(0,))
    thin = make_thin(pool, 0)
    assert shell(dmsetup_versions()).endswith(dm.versions()[1])
    assert f"thin-pool        v{dm.targets()['thin-pool']}" in shell(dmsetup_targets())
    listed = next(listed for listed in dm.list_all() if listed.name == thin)
    assert f"{thin}:{listed.devno}:{listed.event_nr}" in shell(dmsetup_list_all())
    found = info_of(dm, thin)
    assert shell(dmsetup_info(thin)).startswith(f"{thin}:{found.uuid}:{found.devno}:0:{found.event_nr}:Active:")
    assert f"({pool.devno.major}, {pool.devno.minor})" in shell(dmsetup_deps(thin))
    assert shell(dmsetup_table(thin)) == str(dm.table(thin)[0])
    assert shell(dmsetup_status(pool.name)).endswith(dm.status(pool.name)[0][1])


def test_lines_that_change_do_what_the_calls_do(dm: LibDm, prefix: str) -> None:
    name = prefix + "d"
    shell(dmsetup_create(name, "DMR-" + name))
    assert (info_of(dm, name).uuid, info_of(dm, name).live_table) == ("DMR-" + name, False)
    shell(dmsetup_load(name, (ERROR,)))
    assert dm.table(name, inactive=True) == (ERROR,)
    assert shell(dmsetup_table(name, inactive=True)) == str(ERROR)
    shell(dmsetup_clear(name))
    assert not info_of(dm, name).inactive_table
    shell(dmsetup_load(name, (ERROR, LONGER)))
    shell(dmsetup_resume(name))
    assert dm.table(name) == (ERROR, LONGER)
    shell(dmsetup_suspend(name))
    assert info_of(dm, name).suspended
    shell(dmsetup_resume(name))
    shell(dmsetup_mknodes(name))
    shell(dmsetup_remove(name))
    assert dm.info(name) is None


@pytest.mark.parametrize("table", [(ERROR,), (ERROR, LONGER)])
def test_read_only_tables_are_loaded_so(dm: LibDm, prefix: str, table: tuple[Target, ...]) -> None:
    shell(dmsetup_create(prefix + "d", ""))
    shell(dmsetup_load(prefix + "d", table, read_only=True))
    shell(dmsetup_resume(prefix + "d"))
    assert info_of(dm, prefix + "d").read_only


def test_messages_reach_the_pool(dm: LibDm, make_pool: Callable[..., TestPool], prefix: str) -> None:
    pool = make_pool()
    shell(dmsetup_message(pool.name, "create_thin 0"))
    shell(dmsetup_create(prefix + "t", ""))
    shell(dmsetup_load(prefix + "t", (pool.thin(0).target(),)))
    assert dm.table(prefix + "t", inactive=True) == (pool.thin(0).target(),)


def test_each_call_logs_its_line(dm: LibDm, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "reconciler.kernel.command_lines")
    name = prefix + "d"
    dm.create(name, "")
    dm.load(name, (ERROR,))
    dm.resume(name, hidden=True)
    dm.info(name)
    dm.remove(name)
    assert [record.getMessage() for record in caplog.records if record.name == "reconciler.kernel.command_lines"] == [
        dmsetup_create(name, ""),
        dmsetup_load(name, (ERROR,)),
        dmsetup_resume(name),
        dmsetup_info(name),
        dmsetup_remove(name),
    ]

"""Each dmsetup command line is taken by the real dmsetup, and does what the call does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.kernel import dmsetup as lines
from reconciler.kernel.libdm.device_mapper import LibDm
from reconciler.model.table import Target
from reconciler.model.units import Sectors
from tests.kernel.conftest import ERROR, TestPool, info_of, run

LONGER = Target(Sectors(2048), Sectors(8), "error", "")


def shell(line: str) -> str:
    return run("bash", "-euo", "pipefail", "-c", line).out


def test_lines_that_look_print_what_the_calls_give(
    dm: LibDm, make_pool: Callable[..., TestPool], make_thin: Callable[..., str]
) -> None:
    pool = make_pool(thins=(0,))
    thin = make_thin(pool, 0)
    assert shell(lines.versions()).endswith(dm.versions()[1])
    assert f"thin-pool        v{dm.targets()['thin-pool']}" in shell(lines.targets())
    listed = next(listed for listed in dm.list_all() if listed.name == thin)
    assert f"{thin}:{listed.devno}:{listed.event_nr}" in shell(lines.list_all())
    found = info_of(dm, thin)
    assert shell(lines.info(thin)).startswith(f"{thin}:{found.uuid}:{found.devno}:0:{found.event_nr}:Active:")
    assert f"({pool.devno.major}, {pool.devno.minor})" in shell(lines.deps(thin))
    assert shell(lines.table(thin)) == str(dm.table(thin)[0])
    assert shell(lines.status(pool.name)).endswith(dm.status(pool.name)[0][1])


def test_lines_that_change_do_what_the_calls_do(dm: LibDm, prefix: str) -> None:
    name, renamed = prefix + "d", prefix + "e"
    shell(lines.create(name, "DMR-" + name))
    assert (info_of(dm, name).uuid, info_of(dm, name).live_table) == ("DMR-" + name, False)
    shell(lines.load(name, (ERROR,)))
    assert dm.table(name, inactive=True) == (ERROR,)
    assert shell(lines.table(name, inactive=True)) == str(ERROR)
    shell(lines.clear(name))
    assert not info_of(dm, name).inactive_table
    shell(lines.load(name, (ERROR, LONGER)))
    shell(lines.resume(name))
    assert dm.table(name) == (ERROR, LONGER)
    shell(lines.suspend(name))
    assert info_of(dm, name).suspended
    shell(lines.resume(name))
    shell(lines.rename(name, renamed))
    shell(lines.mknodes(renamed))
    assert info_of(dm, renamed).uuid == "DMR-" + name
    shell(lines.remove(renamed))
    assert dm.info(renamed) is None


@pytest.mark.parametrize("table", [(ERROR,), (ERROR, LONGER)])
def test_read_only_tables_are_loaded_so(dm: LibDm, prefix: str, table: tuple[Target, ...]) -> None:
    shell(lines.create(prefix + "d", ""))
    shell(lines.load(prefix + "d", table, read_only=True))
    shell(lines.resume(prefix + "d"))
    assert info_of(dm, prefix + "d").read_only


def test_messages_reach_the_pool(dm: LibDm, make_pool: Callable[..., TestPool], prefix: str) -> None:
    pool = make_pool()
    shell(lines.message(pool.name, "create_thin 0"))
    shell(lines.create(prefix + "t", ""))
    shell(lines.load(prefix + "t", (pool.thin(0).target(),)))
    assert dm.table(prefix + "t", inactive=True) == (pool.thin(0).target(),)


def test_each_call_logs_its_line(dm: LibDm, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "reconciler.kernel.dmsetup")
    name = prefix + "d"
    dm.create(name, "")
    dm.load(name, (ERROR,))
    dm.resume(name, hidden=True)
    dm.info(name)
    dm.remove(name)
    assert [record.getMessage() for record in caplog.records if record.name == "reconciler.kernel.dmsetup"] == [
        lines.create(name, ""),
        lines.load(name, (ERROR,)),
        lines.resume(name),
        lines.info(name),
        lines.remove(name),
    ]

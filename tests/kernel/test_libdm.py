"""LibDm on a real kernel: what each call does, and with which errno it fails."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.model.dm_tables import Target, read_table
from reconciler.model.errors import HostError
from reconciler.model.units import Sectors
from tests.testing.real_kernel import ERROR, Run, TestPool, devno_of, fails, info_of

MakePool = Callable[..., TestPool]
MakeThin = Callable[..., str]
MakeLoop = Callable[..., Path]
Dmsetup = Callable[..., Run]


class TestTheHost:
    def test_versions_are_those_that_dmsetup_prints(self, dm: LibDm, dmsetup: Dmsetup) -> None:
        library, driver = dm.versions()
        assert dmsetup("version").out.split("\n") == [f"Library version:   {library}", f"Driver version:    {driver}"]

    def test_targets_are_those_that_dmsetup_prints(self, dm: LibDm, dmsetup: Dmsetup) -> None:
        printed = dict(line.split() for line in dmsetup("targets").out.split("\n"))
        assert dm.targets() == {kind: version.removeprefix("v") for kind, version in printed.items()}

    def test_the_list_has_names_of_every_length_with_number_and_event(
        self, dm: LibDm, dmsetup: Dmsetup, prefix: str
    ) -> None:
        names = [prefix + "x" * length for length in (*range(1, 20), 127 - len(prefix))]
        for name in names:
            dm.create(name, "")
        dmsetup("rename", names[3], prefix + "renamed")  # its event number goes up
        lines = dmsetup("info", "-c", "--noheadings", "-o", "name,major,minor,events").out.split("\n")
        wanted = {line for line in lines if line.startswith(prefix)}
        found = {
            f"{listed.name}:{listed.devno.major}:{listed.devno.minor}:{listed.event_nr}"
            for listed in dm.list_all()
            if listed.name.startswith(prefix)
        }
        assert found == wanted
        assert len(found) == len(names)

    def test_names_that_others_mangled_read_as_the_kernel_has_them(
        self, dm: LibDm, dmsetup: Dmsetup, prefix: str
    ) -> None:
        dmsetup("create", prefix + "a b", "--notable")
        raw = prefix + r"a\x20b"
        assert raw in {listed.name for listed in dm.list_all()}
        assert info_of(dm, raw).name == raw
        dm.remove(raw)
        assert dm.info(raw) is None


class TestLooking:
    def test_info_of_what_is_not_there_is_none(self, dm: LibDm, prefix: str) -> None:
        assert dm.info(prefix + "none") is None

    def test_info_follows_a_device_through_its_life(self, dm: LibDm, prefix: str) -> None:
        name = prefix + "d"
        dm.create(name, "DMR-" + name)
        made = info_of(dm, name)
        assert (made.uuid, made.live_table, made.inactive_table) == ("DMR-" + name, False, False)
        dm.load(name, (ERROR,))
        loaded = info_of(dm, name)
        assert (loaded.live_table, loaded.inactive_table) == (False, True)
        dm.resume(name)
        live = info_of(dm, name)
        assert (live.live_table, live.inactive_table, live.suspended) == (True, False, False)
        dm.suspend(name)
        assert info_of(dm, name).suspended
        dm.resume(name)
        assert not info_of(dm, name).suspended

    def test_the_number_is_that_of_the_node(self, dm: LibDm, prefix: str) -> None:
        name = prefix + "d"
        _live(dm, name)
        assert devno_of(f"/dev/mapper/{name}") == info_of(dm, name).devno

    def test_an_open_device_counts_its_openers(self, dm: LibDm, make_pool: MakePool, make_thin: MakeThin) -> None:
        pool = make_pool(thins=(0,))
        make_thin(pool, 0)
        assert info_of(dm, pool.name).open_count == 1

    def test_a_read_only_table_shows(self, dm: LibDm, prefix: str) -> None:
        name = prefix + "d"
        dm.create(name, "")
        dm.load(name, (ERROR,), read_only=True)
        dm.resume(name)
        assert info_of(dm, name).read_only

    def test_a_deferred_removal_shows(
        self, dm: LibDm, dmsetup: Dmsetup, make_pool: MakePool, make_thin: MakeThin
    ) -> None:
        pool = make_pool(thins=(0,))
        thin = make_thin(pool, 0)
        assert not info_of(dm, pool.name).deferred_remove
        dmsetup("remove", "--deferred", pool.name)
        assert info_of(dm, pool.name).deferred_remove
        dm.remove(thin)
        assert dm.info(pool.name) is None

    def test_live_and_waiting_tables_are_told_apart(self, dm: LibDm, prefix: str) -> None:
        name = prefix + "d"
        longer = Target(Sectors(0), Sectors(4096), "error", "")
        dm.create(name, "")
        assert dm.table(name) == dm.table(name, inactive=True) == ()
        dm.load(name, (ERROR,))
        assert (dm.table(name), dm.table(name, inactive=True)) == ((), (ERROR,))
        dm.resume(name)
        dm.load(name, (longer,))
        assert (dm.table(name), dm.table(name, inactive=True)) == ((ERROR,), (longer,))
        dm.clear(name)
        assert (dm.table(name), dm.table(name, inactive=True)) == ((ERROR,), ())

    def test_a_table_of_several_targets_comes_back_as_it_was_given(
        self, dm: LibDm, make_loop: MakeLoop, prefix: str
    ) -> None:
        name, disk = prefix + "d", devno_of(make_loop("disk"))
        table = (
            ERROR,
            Target(Sectors(2048), Sectors(2048), "linear", f"{disk} 8"),
            Target(Sectors(4096), Sectors(8), "error", ""),
        )
        dm.create(name, "")
        dm.load(name, table)
        dm.resume(name)
        assert dm.table(name) == table
        assert dm.status(name) == [("error", ""), ("linear", ""), ("error", "")]
        assert dm.deps(name) == [disk]

    def test_pool_and_thin_tables_read_back_as_they_were_written(
        self, dm: LibDm, make_pool: MakePool, make_thin: MakeThin
    ) -> None:
        pool = make_pool(thins=(0,), error_if_full=True)
        thin = make_thin(pool, 0)
        assert read_table(dm.table(pool.name)) == pool.table
        assert read_table(dm.table(thin)) == pool.thin(0)
        assert set(dm.deps(pool.name)) == {pool.table.metadata, pool.table.data}
        assert dm.deps(thin) == [pool.devno]

    def test_status_lines_are_those_that_dmsetup_prints(
        self, dm: LibDm, dmsetup: Dmsetup, make_pool: MakePool, make_thin: MakeThin
    ) -> None:
        pool = make_pool(thins=(0,))
        thin = make_thin(pool, 0)
        for name, kind in ((pool.name, "thin-pool"), (thin, "thin")):
            ((found, text),) = dm.status(name)
            assert found == kind
            assert dmsetup("status", "--noflush", name).out.split(" ", 3)[3].strip() == text

    @pytest.mark.parametrize("call", ["table", "status", "deps"])
    def test_looking_at_what_is_not_there_is_enxio(self, dm: LibDm, prefix: str, call: str) -> None:
        with fails(errno.ENXIO):
            getattr(dm, call)(prefix + "none")


class TestChanging:
    def test_a_name_or_uuid_that_is_taken_is_ebusy(self, dm: LibDm, prefix: str) -> None:
        dm.create(prefix + "d", "DMR-" + prefix)
        with fails(errno.EBUSY):
            dm.create(prefix + "d", "")
        with fails(errno.EBUSY):
            dm.create(prefix + "e", "DMR-" + prefix)

    def test_a_name_that_is_too_long_is_einval_and_says_so(self, dm: LibDm, prefix: str) -> None:
        with pytest.raises(HostError, match=r"EINVAL.*too long"):
            dm.create(prefix.ljust(128, "x"), "")

    @pytest.mark.parametrize("call", ["resume", "suspend", "remove", "clear"])
    def test_changing_what_is_not_there_is_enxio(self, dm: LibDm, prefix: str, call: str) -> None:
        with fails(errno.ENXIO):
            getattr(dm, call)(prefix + "none")

    def test_the_other_changes_to_what_is_not_there_are_enxio_too(self, dm: LibDm, prefix: str) -> None:
        name = prefix + "none"
        with fails(errno.ENXIO):
            dm.load(name, (ERROR,))
        with fails(errno.ENXIO):
            dm.message(name, "create_thin 0")

    def test_removing_what_is_open_is_ebusy(self, dm: LibDm, make_pool: MakePool, make_thin: MakeThin) -> None:
        pool = make_pool(thins=(0,))
        make_thin(pool, 0)
        with fails(errno.EBUSY):
            dm.remove(pool.name)

    def test_removing_takes_the_node_along(self, dm: LibDm, prefix: str) -> None:
        _live(dm, prefix + "d")
        dm.remove(prefix + "d")
        assert not os.path.lexists(f"/dev/mapper/{prefix}d")

    def test_suspending_twice_succeeds(self, dm: LibDm, prefix: str) -> None:
        _live(dm, prefix + "d")
        dm.suspend(prefix + "d")
        dm.suspend(prefix + "d")
        assert info_of(dm, prefix + "d").suspended

    def test_resuming_what_has_no_table_or_runs_already_succeeds(self, dm: LibDm, prefix: str) -> None:
        dm.create(prefix + "d", "")
        dm.resume(prefix + "d")
        assert not info_of(dm, prefix + "d").live_table
        dm.load(prefix + "d", (ERROR,))
        dm.resume(prefix + "d")
        dm.resume(prefix + "d")
        assert info_of(dm, prefix + "d").live_table

    def test_a_node_that_is_gone_is_made_again(self, dm: LibDm, prefix: str) -> None:
        _live(dm, prefix + "d")
        node = Path(f"/dev/mapper/{prefix}d")
        node.unlink()
        dm.mknodes(prefix + "d")
        assert stat.S_ISBLK(node.stat().st_mode)
        assert devno_of(node) == info_of(dm, prefix + "d").devno


class TestSilence:
    def test_nothing_of_the_library_reaches_stderr(
        self, dm: LibDm, prefix: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        dm.create(prefix + "d", "")
        with pytest.raises(HostError):
            dm.create(prefix + "d", "")
        with pytest.raises(HostError):
            dm.remove(prefix + "none")
        dm.resume(prefix + "d")
        assert capfd.readouterr() == ("", "")

    def test_what_it_logs_is_heard_at_debug(self, dm: LibDm, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", "reconciler.kernel.dm")
        dm.info(prefix + "none")
        assert any("ioctl/libdm-iface.c" in record.getMessage() for record in caplog.records)


def _live(dm: LibDm, name: str) -> None:
    dm.create(name, "DMR-" + name)
    dm.load(name, (ERROR,))
    dm.resume(name)

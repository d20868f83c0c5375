"""The dmsetup lines as text: quoted so that a shell passes on each word as it was."""

from __future__ import annotations

import shlex

import pytest

from reconciler.kernel.command_lines import (
    dmsetup_clear,
    dmsetup_create,
    dmsetup_deps,
    dmsetup_info,
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
from reconciler.model.dm_tables import Target
from reconciler.model.units import Sectors

THIN = Target(Sectors(0), Sectors(2048), "thin", "253:0 1")
ERROR = Target(Sectors(2048), Sectors(8), "error", "")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (dmsetup_create("tank-base", "DMR-1"), "dmsetup create tank-base --uuid DMR-1 --notable"),
        (dmsetup_create("tank-base", ""), "dmsetup create tank-base --notable"),
        (dmsetup_load("tank-base", (THIN,)), "dmsetup load tank-base --table '0 2048 thin 253:0 1'"),
        (
            dmsetup_load("tank-base", (THIN,), read_only=True),
            "dmsetup load tank-base --readonly --table '0 2048 thin 253:0 1'",
        ),
        (
            dmsetup_load("tank-base", (THIN, ERROR)),
            "printf '%s\\n' '0 2048 thin 253:0 1' '2048 8 error' | dmsetup load tank-base",
        ),
        (dmsetup_resume("tank"), "dmsetup resume tank"),
        (dmsetup_suspend("tank"), "dmsetup suspend tank"),
        (dmsetup_remove("tank"), "dmsetup remove tank"),
        (dmsetup_clear("tank"), "dmsetup clear tank"),
        (dmsetup_message("tank", "create_thin 0"), "dmsetup message tank 0 'create_thin 0'"),
        (dmsetup_mknodes("tank"), "dmsetup mknodes tank"),
        (dmsetup_table("tank"), "dmsetup table tank"),
        (dmsetup_table("tank", inactive=True), "dmsetup table --inactive tank"),
        (dmsetup_status("tank"), "dmsetup status --noflush tank"),
        (dmsetup_deps("tank"), "dmsetup deps tank"),
        (dmsetup_targets(), "dmsetup targets"),
        (dmsetup_versions(), "dmsetup version"),
    ],
)
def test_lines_read_as_an_administrator_would_write_them(line: str, wanted: str) -> None:
    assert line == wanted


def test_names_of_others_with_odd_characters_stay_one_word() -> None:
    odd = r"it's a\x20b $HOME"
    assert shlex.split(dmsetup_info(odd))[-1] == odd
    assert shlex.split(dmsetup_remove(odd)) == ["dmsetup", "remove", odd]

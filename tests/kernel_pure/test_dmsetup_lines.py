"""The dmsetup lines as text: quoted so that a shell passes on each word as it was."""

from __future__ import annotations

import shlex

import pytest

from reconciler.kernel import dmsetup
from reconciler.model.table import Target
from reconciler.model.units import Sectors

THIN = Target(Sectors(0), Sectors(2048), "thin", "253:0 1")
ERROR = Target(Sectors(2048), Sectors(8), "error", "")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (dmsetup.create("tank-base", "DMR-1"), "dmsetup create tank-base --uuid DMR-1 --notable"),
        (dmsetup.create("tank-base", ""), "dmsetup create tank-base --notable"),
        (dmsetup.load("tank-base", (THIN,)), "dmsetup load tank-base --table '0 2048 thin 253:0 1'"),
        (
            dmsetup.load("tank-base", (THIN,), read_only=True),
            "dmsetup load tank-base --readonly --table '0 2048 thin 253:0 1'",
        ),
        (
            dmsetup.load("tank-base", (THIN, ERROR)),
            "printf '%s\\n' '0 2048 thin 253:0 1' '2048 8 error' | dmsetup load tank-base",
        ),
        (dmsetup.resume("tank"), "dmsetup resume tank"),
        (dmsetup.suspend("tank"), "dmsetup suspend tank"),
        (dmsetup.remove("tank"), "dmsetup remove tank"),
        (dmsetup.rename("tank", "bank"), "dmsetup rename tank bank"),
        (dmsetup.clear("tank"), "dmsetup clear tank"),
        (dmsetup.message("tank", "create_thin 0"), "dmsetup message tank 0 'create_thin 0'"),
        (dmsetup.mknodes("tank"), "dmsetup mknodes tank"),
        (dmsetup.table("tank"), "dmsetup table tank"),
        (dmsetup.table("tank", inactive=True), "dmsetup table --inactive tank"),
        (dmsetup.status("tank"), "dmsetup status --noflush tank"),
        (dmsetup.deps("tank"), "dmsetup deps tank"),
        (dmsetup.targets(), "dmsetup targets"),
        (dmsetup.versions(), "dmsetup version"),
    ],
)
def test_lines_read_as_an_administrator_would_write_them(line: str, wanted: str) -> None:
    assert line == wanted


def test_names_of_others_with_odd_characters_stay_one_word() -> None:
    odd = r"it's a\x20b $HOME"
    assert shlex.split(dmsetup.info(odd))[-1] == odd
    assert shlex.split(dmsetup.remove(odd)) == ["dmsetup", "remove", odd]

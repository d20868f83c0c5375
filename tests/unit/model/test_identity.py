"""Disks and files are told apart by what stays with them."""

from __future__ import annotations

import pytest

from reconciler.model.identity import in_words, is_other, is_same

WWN = ("wwn:naa.1",)
PARTITION = ("part:1", "partuuid:aa", "wwn:naa.1")
FILE = ("file:ff:7", "path:/srv/a")
LOOP = (*FILE, "offset:0")


@pytest.mark.parametrize(
    ("noted", "found", "other", "same"),
    [
        (WWN, WWN, False, True),
        (WWN, ("wwn:naa.2",), True, False),
        ((*WWN, "serial:s"), WWN, False, True),
        (WWN, (), True, False),
        (WWN, ("serial:s",), True, False),
        ((), WWN, False, False),
        ((), (), False, False),
        (PARTITION, PARTITION, False, True),
        (PARTITION, ("part:1", "partuuid:aa", "wwn:naa.2"), True, False),
        (PARTITION, ("part:2", "partuuid:bb", "wwn:naa.1"), True, False),
        (PARTITION, WWN, True, False),
        (WWN, PARTITION, True, False),
        (("part:1",), ("part:1",), False, False),
        (("part:1",), ("part:2",), True, False),
        (FILE, ("file:ff:9", "path:/srv/a"), False, True),
        (FILE, ("file:ff:7", "path:/mnt/a"), False, True),
        (FILE, ("file:ff:9", "path:/mnt/a"), True, False),
        (LOOP, FILE, False, True),
        (LOOP, (*FILE, "offset:4096"), True, False),
        (LOOP, ("file:ff:8", "path:/srv/b", "offset:0"), True, False),
        (LOOP, WWN, True, False),
        (("dm:LVM-a",), ("dm:LVM-b",), True, False),
    ],
)
def test_what_is_provable(noted: tuple[str, ...], found: tuple[str, ...], other: bool, same: bool) -> None:
    assert (is_other(noted, found), is_same(noted, found)) == (other, same)


def test_a_disk_is_told_by_what_people_find_it_by() -> None:
    assert in_words(PARTITION) == "WWN naa.1, PARTUUID aa"
    assert in_words(LOOP) == "file /srv/a"
    assert in_words(()) == "no WWN, serial or UUID"

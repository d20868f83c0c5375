"""The lock of a device that a pool is to lie on: one at a time, given up with an errno, and let go at the end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reconciler.kernel.locks import alone_on
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError

DISK, OTHER, THIRD = Devno(7, 0), Devno(7, 1), Devno(7, 2)


def test_two_that_share_one_device_are_not_in_it_together(tmp_path: Path) -> None:
    with alone_on((DISK, OTHER), tmp_path):
        with pytest.raises(HostError) as caught, alone_on((THIRD, OTHER), tmp_path, patience=0.05):
            pass
        assert caught.value.errno == errno.EBUSY
        with alone_on((THIRD,), tmp_path, patience=0.05):  # what the refused one had taken is free again
            pass


def test_it_is_free_again_however_it_ended(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="load"), alone_on((DISK, OTHER), tmp_path):
        raise HostError("load", "tank", errno.EINVAL, "")
    with alone_on((OTHER, DISK), tmp_path, patience=0.05):
        pass


def test_one_device_named_twice_does_not_wait_for_itself(tmp_path: Path) -> None:
    with alone_on((DISK, DISK), tmp_path, patience=0.05):
        assert [file.name for file in tmp_path.iterdir()] == ["7:0.device"]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "7:0.device").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError), alone_on((DISK,), tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()

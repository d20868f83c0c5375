"""Loading libdevmapper: what is missing is said at once, with what to install."""

from __future__ import annotations

import ctypes
import dataclasses
from types import SimpleNamespace

import pytest

from reconciler.kernel.dm import library
from reconciler.kernel.dm.library import FUNCTIONS, DmInfo, Functions
from reconciler.model.errors import HostError


def test_the_table_and_the_bound_functions_are_the_same() -> None:
    assert [field.name for field in dataclasses.fields(Functions)] == list(FUNCTIONS)


def test_the_struct_of_info_has_the_size_that_the_library_writes() -> None:
    assert ctypes.sizeof(DmInfo) == 12 * 4


def test_a_library_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "SONAME", "libdevmapper.so.0")
    with pytest.raises(HostError, match=r"ENOENT.*install libdevmapper1"):
        library.load.__wrapped__()


def test_a_library_that_is_too_old_names_what_it_lacks() -> None:
    old = SimpleNamespace(**{name: SimpleNamespace() for name in FUNCTIONS if name != "dm_udev_wait_immediate"})
    with pytest.raises(HostError, match=r"dm_udev_wait_immediate; at least version 1\.02\.124"):
        library.bind(old)

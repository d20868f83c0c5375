"""Two lists of devices compared."""

from __future__ import annotations

from reconciler.kernel.monitor import changed
from reconciler.model.dm_tables import Devno
from reconciler.model.live import Listed

BASE = Listed("tank-base", Devno(253, 1), 0)
POOL = Listed("tank", Devno(253, 0), 3)


def test_equal_lists_differ_in_nothing_whatever_their_order() -> None:
    assert changed([POOL, BASE], [BASE, POOL]) == set()


def test_what_came_went_or_moved_on_is_named() -> None:
    assert changed([], [POOL]) == {"tank"}
    assert changed([POOL], []) == {"tank"}
    assert changed([POOL, BASE], [Listed("tank", Devno(253, 0), 4), BASE]) == {"tank"}


def test_a_device_made_anew_under_its_name_is_named() -> None:
    assert changed([BASE], [Listed("tank-base", Devno(253, 2), 0)]) == {"tank-base"}


def test_a_rename_names_both() -> None:
    assert changed([BASE], [Listed("tank-copy", Devno(253, 1), 1)]) == {"tank-base", "tank-copy"}

"""Names and UUIDs fit what the kernel takes, whatever the records are called."""

from __future__ import annotations

import re
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.names import (
    DM_NAME_MAX,
    DM_NAME_PATTERN,
    NAME_PATTERN,
    Key,
    device_dm_name,
    is_private,
    make_uuid,
    of_store,
    private_dm_name,
    private_uuid,
)

KERNEL_UUID_MAX = 128
names = st.from_regex(re.compile(NAME_PATTERN.replace("$", r"\Z")))
ids = st.uuids().map(lambda each: each.hex)
LONGEST = "x" * 63


@given(names, names)
def test_every_dm_name_fits_and_needs_no_mangling(pool: str, device: str) -> None:
    for name in (pool, device_dm_name(pool, device), private_dm_name(pool, device)):
        assert len(name) <= DM_NAME_MAX
        assert re.fullmatch(DM_NAME_PATTERN, name)


def test_the_longest_names_fit() -> None:
    assert len(device_dm_name(LONGEST, LONGEST)) == DM_NAME_MAX
    assert len(private_dm_name(LONGEST, LONGEST)) == DM_NAME_MAX


@given(names, names, names)
def test_private_names_of_different_devices_differ(pool: str, one: str, other: str) -> None:
    assert (private_dm_name(pool, one) == private_dm_name(pool, other)) == (one == other)


def test_shortened_private_names_differ_too() -> None:
    assert private_dm_name(LONGEST, "y" * 62 + "a") != private_dm_name(LONGEST, "y" * 62 + "b")


@given(names, names)
def test_a_private_name_is_never_the_public_one(pool: str, device: str) -> None:
    assert private_dm_name(pool, device) != device_dm_name(pool, device)
    assert private_dm_name(pool, device).endswith(".private")


@given(ids, ids)
def test_uuids_fit_and_tell_whose_they_are(store: str, record: str) -> None:
    uuid = make_uuid(store, record)
    assert len(private_uuid(uuid)) <= KERNEL_UUID_MAX
    assert of_store(uuid, store)
    assert of_store(private_uuid(uuid), store)
    assert not is_private(uuid)
    assert is_private(private_uuid(uuid))


@given(ids, ids, ids)
def test_another_stores_uuid_is_foreign(store: str, other: str, record: str) -> None:
    assert of_store(make_uuid(other, record), store) == (store == other)


@given(st.text())
def test_any_text_may_be_asked(uuid: str) -> None:
    assert not of_store(uuid, UUID(int=0).hex) or uuid.startswith("DMR-")
    assert not is_private(uuid) or uuid.startswith("DMR-")


def test_pools_sort_before_their_devices() -> None:
    keys = [Key("b"), Key("a", "x"), Key("a"), Key("b", "a")]
    assert sorted(keys) == [Key("a"), Key("a", "x"), Key("b"), Key("b", "a")]
    assert [str(key) for key in sorted(keys)] == ["a", "a/x", "b", "b/a"]
    assert (Key("a").kind, Key("a", "x").kind) == ("ThinPool", "ThinDevice")

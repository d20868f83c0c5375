"""Every dataclass of the store is read back exactly as it was written."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.conditions import DeviceStatus, Event, PoolStatusReport, Status
from reconciler.model.names import Key
from reconciler.model.stored import Intent, StoredDevice, StoredPool
from reconciler.store.codec import Data, decode, encode
from reconciler.store.tables import LastGoodRecord


@dataclass(frozen=True, slots=True)
class Small:
    """The smallest possible row."""

    pool: str
    thin_id: int


KINDS: list[type[Data]] = [
    StoredPool,
    StoredDevice,
    Intent,
    Small,
    Status,
    DeviceStatus,
    PoolStatusReport,
    Event,
    LastGoodRecord,
]
# File names may hold bytes that are not UTF-8, which are lone surrogates in Python.
ANY_TEXT = st.text(st.characters(exclude_categories=()))
NUMBERS = st.floats(-1e11, 1e11)  # times
CHOSEN: dict[object, st.SearchStrategy[object]] = {
    "str": ANY_TEXT,
    "tuple[str, ...]": st.lists(ANY_TEXT).map(tuple),
    "float": NUMBERS,
    "float | None": st.none() | NUMBERS,
}


def any_of(kind: type[Data]) -> st.SearchStrategy[Data]:
    chosen = {name: CHOSEN[field.type] for name, field in kind.__dataclass_fields__.items() if field.type in CHOSEN}
    return st.builds(kind, **chosen)


@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_every_dataclass_comes_back_as_it_was(kind: type[Data], data: st.DataObject) -> None:
    value = data.draw(any_of(kind))
    text = encode(value)
    text.encode()
    assert "\0" not in text
    assert decode(kind, text) == value


def test_a_field_that_was_added_later_takes_its_default() -> None:
    assert decode(Small, '{"pool":"tank","thin_id":1}') == Small("tank", 1)
    event = decode(Event, '{"key":["tank",""],"type":"Info","reason":"R","message":"m","time":1.5}')
    assert event.count == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Small, ""),
        (Small, "[]"),
        (Small, "{}"),
        (Small, '{"pool":"tank"}'),
        (Small, '{"pool":"tank","thin_id":"1"}'),
        (Small, '{"pool":"tank","thin_id":true}'),
        (Small, '{"pool":"tank","thin_id":1,"more":1}'),
        (Event, '{"key":["tank"],"type":"Info","reason":"R","message":"m","time":1}'),
        (Event, '{"key":["tank",""],"type":"Other","reason":"R","message":"m","time":1}'),
        (Event, '{"key":["tank",""],"type":"Info","reason":"R","message":"m","time":true}'),
        (PoolStatusReport, '{"leaked_ids":{}}'),
    ],
)
def test_garbled_text_is_a_value_error(kind: type[Data], text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(kind, text)


def test_what_has_no_form_as_text_is_refused() -> None:
    with pytest.raises(TypeError):
        encode(Small("tank", object()))  # type: ignore[arg-type]  # what is tested


def test_a_key_comes_back_as_a_key() -> None:
    event = decode(Event, '{"key":["tank","a"],"type":"Info","reason":"R","message":"m","time":1}')
    assert event.key == Key("tank", "a")

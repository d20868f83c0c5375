"""Rows of the store, the locks' files, and a whole store file."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from reconciler.kernel.locks import PoolLock
from reconciler.model.conditions import DeviceStatus, Event, PoolStatusReport, Status, rfc3339
from reconciler.model.stored import Intent, StoredDevice, StoredPool
from reconciler.store.codec import Data, decode, encode
from reconciler.store.errors import StoreError
from reconciler.store.lock import StateLock
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord
from tests.fuzz.target import Target, assert_shown, refuses, text_of

_KINDS: Final[tuple[type[Data], ...]] = (
    *(StoredPool, StoredDevice, Intent, LastGoodRecord),
    *(Status, DeviceStatus, PoolStatusReport, Event),
)
_WORDS = (
    *(b"null", b"true", b"false", b"Infinity", b"NaN", b"1e999", b"1e300", b"-1", b"[]", b"{}", b'"', b"\\u0000", b"\\ud800"),
    *(b'["tank","a"]', b'"key":', b'"thin_id":', b'"kind":"delete"', b'"reason":"Converged"', b'"external":true', b"[" * 3000),
)  # fmt: skip


def _row(data: bytes) -> None:
    """A row gives a value that is written the same again, or the error that names the store as damaged."""
    text = text_of(data)
    for kind in _KINDS:
        try:
            value = decode(kind, text)
        except ValueError:
            continue
        assert decode(kind, encode(value)) == value
        if isinstance(value, Event):
            assert_shown(rfc3339(value.time))


class Places:
    """Made once."""

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="fuzz-")
        self.path = Path(self._kept.name)
        self.state = self.path / "state"
        with Store.open(self.state, wall_clock=lambda: 0.0):
            pass
        self.whole = (self.state / "state.db").read_bytes()


_PLACES: list[Places] = []


def _places() -> Places:
    if not _PLACES:
        _PLACES.append(Places())
    return _PLACES[0]


def _lock(data: bytes) -> None:
    """Who holds it is what they wrote there: shown, never trusted."""
    for name, holder in (("lock", _state_holder), ("tank.lock", _pool_holder)):
        path = _places().state / name
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            assert_shown(holder())
        finally:
            os.close(descriptor)


def _state_holder() -> str:
    return str(StateLock(_places().state).holder())


def _pool_holder() -> str:
    return str(PoolLock("tank", _places().state).holder())


def _file(data: bytes) -> None:
    """The input is laid over a whole store file: as it is, and over its first pages."""
    places = _places()
    path = places.state / "state.db"
    for content in (
        data,
        data[:200] + places.whole[200:],
        places.whole[:4096] + data + places.whole[4096 + len(data) :],
    ):
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                (places.state / f"state.db{suffix}").unlink()
        path.write_bytes(content)
        refused = refuses(lambda: Store.open(places.state, wall_clock=lambda: 0.0).close(), StoreError)
        if refused:
            assert path.read_bytes() == content, "it was changed"


TARGETS = (
    Target("row", _row, _WORDS),
    Target("lock", _lock, (b'{"pid":', b'"command":', b"Infinity", b"/var/lib/x", b"4711 "), share=0.5),
    Target("store_file", _file, (b"SQLite format 3\x00", b"CREATE TABLE", bytes(100)), seconds=5, share=0.02),
)

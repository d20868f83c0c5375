"""Looking at the store again and again: it may not be there yet, and another one may take its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import sleep
from typing import Final, Self

from reconciler.cli.progress import Progress
from reconciler.cli.view import NoStore, Seen, look, reading
from reconciler.model.names import Key
from reconciler.store.database import NAME, Database, open_for_reading
from reconciler.store.store import Store

_EVERY: Final = 0.5
"""Seconds between two questions whether somebody has written to the store."""


class Eyes:
    """Cheap to ask often: only what somebody has written since is read.

    At boot a hundred services may wait for their devices, each with its own eyes on the store.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._opened = ExitStack()
        self._store: Store | None = None
        self._database: Database | None = None
        self._version = -1
        self._seen: dict[Key, Seen] = {}
        self.stores = 0
        """So many were opened: another number means another store."""

    def store(self) -> Store:
        """The one that is there now. Raises NoStore."""
        if self._store is None or self._database is None or self._database.is_replaced():
            return self._open()
        return self._store

    def latest(self) -> dict[Key, Seen]:
        """Everything, as of now. Raises NoStore."""
        self.store()
        return self.seen()

    def seen(self) -> dict[Key, Seen]:
        """Everything in the store that was given last."""
        assert self._database is not None  # noqa: S101  # there is one
        assert self._store is not None  # noqa: S101
        version = self._database.version()
        if version != self._version:
            self._version, self._seen = version, look(self._store)
        return self._seen

    def looks(self) -> Iterator[Store]:
        """The store, twice a second, for ever. One that is not there, or not any more, is waited for."""
        waiting: Progress | None = None
        try:
            while True:
                try:
                    store = self.store()
                except NoStore as missing:
                    waiting = waiting or Progress()
                    waiting.say(f"waiting: {missing.message}")
                else:
                    if waiting is not None:
                        waiting.pause()
                    waiting = None
                    yield store
                sleep(_EVERY)
        finally:
            if waiting is not None:
                waiting.pause()

    def _open(self) -> Store:
        self.close()
        with ExitStack() as opened:
            store = opened.enter_context(reading(self.state_dir))
            self._database = opened.enter_context(closing(open_for_reading(self.state_dir / NAME)))
            self._opened = opened.pop_all()
        self._store, self._version = store, -1
        self.stores += 1
        return store

    def close(self) -> None:
        self._store = self._database = None
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The interface of the places that records come from: the manifests, and whatever else a pool's record names.

The first source declares the pools. Each later one may declare devices of those pools, with what may be done to each. A
source imports only the model and trusted_files; the clock, and the callback for when there may be something new, are
passed to its constructor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from reconciler.model.recordset import PoolRecords, Problem


@dataclass(frozen=True, slots=True)
class SourceReading:
    """What a source declares at one time."""

    pools: Mapping[str, PoolRecords] | None
    """The records by pool. None if the source cannot be used, in which case its last reading stays."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the source, for people."""
    revision: str = ""
    """A string that is the same as long as the reading is."""


class RecordSource(Protocol):
    """One place that records come from. The constructor starts nothing."""

    def start(self) -> None:
        """Starts to watch. From now on the callback `changed`, which the constructor got, is called from any thread
        when `read` may have something new.
        """

    def stop(self) -> None:
        """Stops: the callback is not called any more. It may be called before `start`, and twice."""

    def poll(self) -> None:
        """Checks for changes that nothing announces. It is called once in each resync interval, so it must be cheap."""

    def read(self, pools: Mapping[str, PoolRecords]) -> SourceReading:
        """Reads what the source declares now. `pools` is what the sources before it declared, empty for the first.

        A pool whose devices cannot be read at the moment is in the reading with `unknown` set, and a device that is
        missing there has no consequences. It raises nothing for what it finds.
        """
        ...

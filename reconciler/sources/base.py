"""Where records come from: the manifests, and whatever else the record of a pool names.

The first source tells which pools there are. Each one after it may tell the devices of pools that it finds there, with
what may be done to each. A source imports only the model and trusted_files; its clock, and what it is to call when there may
be something new to read, are given to it when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from reconciler.model.recordset import PoolRecords, Problem


@dataclass(frozen=True, slots=True)
class SourceReading:
    """What a source tells at one time."""

    pools: Mapping[str, PoolRecords] | None
    """Records of each pool that it has something to say of. None: it cannot be used, and what it said before stays."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with it, for people."""
    revision: str = ""
    """The same while it tells the same."""


class RecordSource(Protocol):
    """One place that records come from. Making one starts nothing."""

    def start(self) -> None:
        """Begin to watch. From now on `changed`, which it was made with, is called from any thread when `read` may tell
        something new.
        """

    def stop(self) -> None:
        """Nothing is called from here on. Also before `start`, and twice."""

    def poll(self) -> None:
        """Look for what announces nothing. Called once a resync, so it has to be cheap."""

    def read(self, pools: Mapping[str, PoolRecords]) -> SourceReading:
        """What it tells now. `pools` is what the sources before it have told, and is empty for the first.

        A pool whose devices it cannot tell at the moment is among the reading's pools, with `unknown` set: nothing follows from a
        device that is not there then. Raises nothing for what it finds.
        """
        ...

"""What the commands of the simulation share: where daemons keep their state, and that sets have the same order again."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FASTEST: Final = Path("/dev/shm")


@contextmanager
def directories() -> Iterator[Callable[[], Path]]:
    """New ones, in memory where that can be had."""
    where = _FASTEST if os.access(_FASTEST, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dm-reconciler-", dir=where) as root:
        numbers = itertools.count()
        yield lambda: Path(root) / str(next(numbers))


def in_the_same_order(module: str) -> None:
    """Start anew with fixed hashes, unless they are: else a seed would tell another scenario each time."""
    logging.disable(logging.CRITICAL)  # what the daemon logs is in no scenario
    gc.set_threshold(50_000, 20, 100)  # much is made, and little of it goes round in circles: a tenth of the time
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", module, *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606

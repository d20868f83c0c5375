"""The kernels that were observed, by where their answers differ. All else is the same on them (tests/conformance)."""

from __future__ import annotations

from enum import IntEnum


class Release(IntEnum):
    """Later ones differ from earlier ones in what each names; a real one is known by asking it (tests/kernel)."""

    V6_1 = 601
    """A message to a device without a live table is answered with OK, and dropped. A table may name its own device."""
    V6_1_LATE = 602
    """6.1.192, as Debian has it: the message is EINVAL."""
    V6_12 = 612
    """So is the table."""

"""The kernels that were observed, by where their answers differ. All else is the same on both (tests/conformance)."""

from __future__ import annotations

from enum import IntEnum


class Release(IntEnum):
    V6_1 = 601
    """A message to a device without a live table is answered with OK, and dropped. A device may be told to lie on itself."""
    V6_12 = 612
    """Both are EINVAL."""

    @classmethod
    def of(cls, uname: str) -> Release:
        """The one that a kernel is like, by its release: `6.12.57+deb13-amd64`. What is between the two is untried."""
        major, minor = (int(word) for word in uname.split("-", maxsplit=1)[0].split(".")[:2])
        return cls.V6_12 if (major, minor) >= (6, 12) else cls.V6_1

"""Frames between the caller's process and the first process inside, over one serial line of the kernel.

One line carries everything, so that the order is kept: when the exit status arrives, all output before it has arrived.
The line is a raw terminal, and therefore transparent to any byte. A frame is its kind (one byte), its length (four,
little-endian) and its payload.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # importing typing takes as long as all other imports together
if TYPE_CHECKING:
    from typing import Final

# Sent from inside.
READY: Final = 1  # the line is raw, and the next part of the configuration may be sent
STARTED: Final = 2  # the command runs
OUTPUT: Final = 3  # output of the command on standard output
ERRORS: Final = 4  # output of the command on standard error
CREDIT: Final = 5  # this many bytes of standard input were taken (COUNT)
EXIT: Final = 6  # the exit status of the command (COUNT)
FAILED: Final = 7  # why the command could not be started (text)

# Sent to the inside.
CONFIG: Final = 16  # a part of inside.config.Config as JSON; an empty one ends it
INPUT: Final = 17  # bytes for standard input; empty at its end
SIGNAL: Final = 18  # a signal for the command's process group (COUNT)
WINDOW: Final = 19  # the rows and columns of the terminal (WINSIZE)
HANGUP: Final = 20  # nobody reads this stream any more: OUTPUT or ERRORS (COUNT)

COUNT: Final = struct.Struct("<I")
WINSIZE: Final = struct.Struct("<HH")
# How many bytes of one kind may be sent before an answer. The driver of the line loses bytes when the terminal's buffer
# of 4096 is nearly full (observed on 6.1 with larger amounts), so this stays well below.
WINDOW_BYTES: Final = 2048
_HEADER: Final = struct.Struct("<BI")


def frame(kind: int, payload: bytes = b"") -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


class Decoder:
    """Splits the stream into frames."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are complete with `data`, in order."""
        self._pending += data
        frames = []
        at = 0
        while len(self._pending) - at >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._pending, at)
            end = at + _HEADER.size + length
            if end > len(self._pending):
                break
            frames.append((kind, bytes(self._pending[at + _HEADER.size : end])))
            at = end
        del self._pending[:at]
        return frames

"""What the caller's process tells the first process inside. It travels as JSON."""

from __future__ import annotations

from typing import TypedDict


class Config(TypedDict):
    command: list[str]
    environment: dict[str, str]
    directory: str
    scratch: list[str]  # directories that become empty and writable
    visible: list[str]  # directories under those that stay to be seen, read-only
    share: list[str]  # directories that can be written, on the host too
    terminals: list[int]  # which of the streams 0, 1 and 2 are a terminal
    window: list[int]  # its rows and columns
    udev: str  # the program; empty: none

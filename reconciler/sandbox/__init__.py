"""A throw-away Linux kernel with device-mapper and udev, run as an ordinary process: `command.run`.

The package imports only the standard library. This module imports nothing, because the first process inside the kernel
imports it too, where each file costs milliseconds.
"""

from __future__ import annotations


class SandboxError(Exception):
    """An error as one line: what is wrong, and what to do next. `status` is the exit status for a command line."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status

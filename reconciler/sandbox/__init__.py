"""A throw-away Linux kernel with device-mapper and udev, run as an ordinary process: `command.run`.

It imports the standard library only and nothing else of this project. The first process inside imports from here too,
and there every file costs milliseconds: so nothing is imported here.
"""

from __future__ import annotations


class SandboxError(Exception):
    """One line: what is wrong, and what to do next. status is what a command line should exit with."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status

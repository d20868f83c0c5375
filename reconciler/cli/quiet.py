"""What the layers below would log, in a command that shows its work itself: only what the kernel's part warns of."""

from __future__ import annotations

import logging

from reconciler.cli.console import note


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        pool = getattr(record, "pool", "")
        for line in record.getMessage().splitlines():
            note(f"{pool}: {line}" if pool else line)


def warnings_only() -> None:
    """From now on; a second call changes nothing."""
    ours, kernel = logging.getLogger("reconciler"), logging.getLogger("reconciler.kernel")
    if any(isinstance(handler, _Notes) for handler in kernel.handlers):
        return
    ours.addHandler(logging.NullHandler())  # all else is shown by the command, or is among what it found
    kernel.addHandler(_Notes(logging.WARNING))

"""Which calls of the kernel's Protocols change anything."""

from __future__ import annotations

from typing import Final

from reconciler.kernel.simulated import Call

_CHANGING: Final = frozenset(
    {
        *("create", "load", "resume", "suspend", "remove", "clear", "message", "mknodes"),
        *("make_file", "grow_file", "delete_file", "zero", "attach", "resize_loop", "detach"),
        *("mkfs", "grow_filesystem", "discard", "trigger"),
    }
)


def changes(call: Call) -> bool:
    """A crash around a call that only looks is a crash between two others."""
    return call.name in _CHANGING

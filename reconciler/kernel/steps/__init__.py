"""What each step on the host does, the look that confirms it, and the command line that does the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.kernel.protocol import Kernel
from reconciler.model.steps import HostStep


@dataclass(frozen=True, slots=True)
class StepHandler:
    """All there is to know about one kind of step: the columns of the table."""

    act: Callable[[Kernel, Any], str | None]
    """Does it. What it gives is the note of the StepResult. Raises HostError."""
    confirm: Callable[[Kernel, Any], None]
    """The look afterwards: the kernel says OK to things that did not happen. Raises VerificationError. Where there was
    nothing to do, there is nothing to confirm.
    """
    commands: Callable[[Any], list[str]]
    """The command lines that a person would type for it: what `plan` shows."""
    test: str
    """In tests/unit/controller/test_perform_simulated.py: that it is done, and that it is noticed when it was not."""


StepTable = Mapping[type[HostStep], StepHandler]


def answered(kernel: Kernel, step: HostStep) -> None:
    """For a step whose call, or program, itself tells whether it happened."""
    del kernel, step


def looked_at_by(move: Callable[..., object]) -> Callable[[Kernel, HostStep], None]:
    """For a step that is made of this move, which looks itself: what it saw before, or on the way, belongs to it."""
    del move
    return answered

"""The table of all steps on the host, with one entry for each kind; runs steps, and shows them as command lines."""

from __future__ import annotations

from typing import Final

from reconciler.kernel.protocol import Kernel
from reconciler.kernel.steps.devices import DEVICE_STEPS
from reconciler.kernel.steps.disks import DISK_STEPS
from reconciler.kernel.steps.dm_operations import StepTable
from reconciler.kernel.steps.pools import POOL_STEPS
from reconciler.model.steps import HostStep, Step, StepResult

STEPS: Final[StepTable] = {**DEVICE_STEPS, **POOL_STEPS, **DISK_STEPS}


def run_step(kernel: Kernel, step: HostStep) -> StepResult:
    """Runs the step. Raises HostError if it failed, and VerificationError if only the kernel says that it succeeded."""
    handler = STEPS[type(step)]
    note = handler.act(kernel, step)
    if not note:
        handler.confirm(kernel, step)
    return StepResult(note or "")


def commands_of(step: Step) -> list[str]:
    """The command lines of a step; none for a step that only concerns the store."""
    return STEPS[type(step)].commands(step) if isinstance(step, HostStep) else []

"""A host in memory: device-mapper, files, loops, tools and udev, as they were observed on real kernels (6.1 and 6.12).

It stands behind `kernel.protocol` and nowhere higher, and does no I/O, reads no clock and knows no chance. Where it
differs from the kernel is a bug of it: tests/testing/conformance gives both the same operations.
"""

from __future__ import annotations

from reconciler.kernel.simulated.faults import Call, Calls, Crashed, WouldBlockError
from reconciler.kernel.simulated.host import SimulatedHost
from reconciler.kernel.simulated.kernel import simulated_kernel

__all__ = ["Call", "Calls", "Crashed", "SimulatedHost", "WouldBlockError", "simulated_kernel"]

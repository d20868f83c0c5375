"""A simulated host in memory: device-mapper, files, loops, tools and udev, as observed on real kernels (6.1 and 6.12).

It implements `kernel.protocol`, does no I/O, and uses neither clock nor random numbers. Any difference from the kernel
is a bug in it: tests/testing/conformance runs the same operations on both.
"""

from __future__ import annotations

from reconciler.kernel.simulated.faults import Call, Calls, Crashed, WouldBlockError
from reconciler.kernel.simulated.host import SimulatedHost
from reconciler.kernel.simulated.kernel import simulated_kernel

__all__ = ["Call", "Calls", "Crashed", "SimulatedHost", "WouldBlockError", "simulated_kernel"]

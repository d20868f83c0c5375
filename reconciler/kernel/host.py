"""The real host's kernel, put together. Constructing opens nothing."""

from __future__ import annotations

from reconciler.kernel.disks import HostDisks
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.tools import HostTools
from reconciler.kernel.udev import HostUdev


def host_kernel() -> Kernel:
    """Raises HostFault where libdevmapper is missing or too old."""
    return Kernel(dm=LibDm(), disks=HostDisks(), tools=HostTools(), udev=HostUdev())

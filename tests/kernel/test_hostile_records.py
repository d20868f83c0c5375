"""What somebody who may write manifests tries on a real kernel, and does not get."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.controller.clock import SystemClock
from reconciler.controller.dry_run import Preview, preview_pool
from reconciler.kernel.host import host_kernel
from reconciler.kernel.programs import HostTools
from reconciler.kernel.protocol import Mkfs
from reconciler.kernel.worker.client import InlineWorkerClient
from reconciler.model.conditions import Reason
from reconciler.model.live import ScanScope
from reconciler.model.records import API_VERSION, ThinPool
from reconciler.model.recordset import PoolRecords
from reconciler.model.units import Bytes
from reconciler.store.store import Store
from tests.testing.real_kernel import MIB, run

OF_THE_KERNEL = "/sys/kernel/uevent_helper"
"""Whoever writes to it has the kernel start a program, as root, at the next event."""
PASSWORDS = "root:x:0:0\n"


def planned(data: Path, metadata: Path, state: Path) -> Preview:
    """What a look at the real host leads to. Nothing else touches the host than what is planned."""
    places = {"data": {"file": str(data), "size": "64MiB"}, "metadata": {"file": str(metadata), "size": "4MiB"}}
    document = {"apiVersion": API_VERSION, "kind": "ThinPool", "metadata": {"name": "tank"}, "spec": places}
    records = PoolRecords("tank", ThinPool.model_validate(document))
    port = InlineWorkerClient(host_kernel(), ScanScope("tank", None, None, frozenset()), state)
    with Store.open(state, wall_clock=time.time) as store:
        previews = preview_pool(records, client=port, store=store, clock=SystemClock(), rng=random.Random(1))
        return next(iter(previews))


@pytest.mark.security("S16")
@pytest.mark.parametrize("which", ["data", "metadata"])
def test_files_that_are_not_to_be_written_to_are_conflicts(workdir: Path, which: str) -> None:
    """An existing file with data, the same behind a link, one of the kernel's, and what is no file at all."""
    (workdir / "passwd").write_text(PASSWORDS)
    (workdir / "link").symlink_to("passwd")
    os.mkfifo(workdir / "fifo")
    plain, none = "was not made by the reconciler, and is not empty", "is neither file nor block device"
    hostile = {workdir / "passwd": plain, workdir / "link": plain, workdir / "fifo": none, workdir: none}
    hostile |= {Path(OF_THE_KERNEL): none, Path("/dev/mem"): none, Path("/proc/self/mem"): none}
    for path, why in hostile.items():
        places = {"data": workdir / "new.data", "metadata": workdir / "new.meta", which: path}
        found = planned(places["data"], places["metadata"], workdir / "state")
        assert (found.plan.reason, found.is_change) == (Reason.CONFLICT, False), path
        assert f"{which}: " in found.plan.condition.message
        assert why in found.plan.condition.message, path


@pytest.mark.security("S15")
def test_a_label_that_looks_like_an_option_is_a_label(make_loop: Callable[..., Path]) -> None:
    for number, (kind, label) in enumerate([("ext4", "-F"), ("ext4", "--help"), ("xfs", "-f")]):
        node = make_loop(f"disk{number}", 320 * MIB)
        HostTools().mkfs(str(node), Mkfs(kind, label, Bytes(4096), discard=False))
        assert run("blkid", "-p", "-o", "value", "-s", "LABEL", str(node)).out == label

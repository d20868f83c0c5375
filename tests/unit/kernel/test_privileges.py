"""The list of capabilities, and what is said where one is missing. That it is the right one: tests/kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.doctor.checks import Severity
from reconciler.doctor.host import check_memory, check_permissions
from reconciler.kernel import privileges
from reconciler.kernel.privileges import EVERY, IPC_LOCK, MKNOD, SYS_ADMIN, Capability, Held
from reconciler.model.errors import HostError


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def lack(patch: pytest.MonkeyPatch, *lost: Capability) -> None:
    effective = sum(1 << capability.bit for capability in EVERY if capability not in lost)
    patch.setattr(privileges, "held", lambda: Held(effective, effective, 0))


def test_what_is_held_is_what_proc_tells() -> None:
    text = Path("/proc/thread-self/status").read_text(encoding="ascii")
    told = [int(text.partition(f"Cap{name}:")[2].split()[0], 16) for name in ("Eff", "Prm", "Inh")]
    held = privileges.held()
    assert [held.effective, held.permitted, held.inheritable] == told


def test_the_list_has_no_capability_twice() -> None:
    assert len({capability.bit for capability in EVERY}) == len({capability.name for capability in EVERY}) == len(EVERY)


def test_without_the_first_nothing_can_begin(lacking: pytest.MonkeyPatch) -> None:
    lack(lacking, MKNOD)
    privileges.require_admin()
    lack(lacking, SYS_ADMIN)
    with pytest.raises(HostError, match=r"use device-mapper failed \(EPERM\): user \d+ is without CAP_SYS_ADMIN"):
        privileges.require_admin()


@pytest.mark.security("S05")
def test_the_doctor_names_what_is_missing_and_what_does_not_work_without_it(lacking: pytest.MonkeyPatch) -> None:
    lack(lacking)
    assert [check.mark for check in check_permissions()] == [Severity.OK]
    for capability in EVERY:
        lack(lacking, capability)
        (check,) = check_permissions()
        assert check.mark is Severity.WRONG
        assert capability.name in check.message
        if capability is not SYS_ADMIN:
            assert capability.without in check.message
            assert check.todo == f"give the daemon {capability.name}: `systemctl edit dm-reconciler`"


def test_the_doctor_tells_a_lock_on_memory_by_either_way_to_it(lacking: pytest.MonkeyPatch) -> None:
    lacking.setattr("resource.getrlimit", lambda _: (65536, 65536))
    lack(lacking)
    assert check_memory().mark is Severity.OK
    lack(lacking, IPC_LOCK)
    assert check_memory().mark is Severity.WRONG
    lacking.setattr("resource.getrlimit", lambda _: (-1, -1))
    assert check_memory().mark is Severity.OK

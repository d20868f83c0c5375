"""The full machine of `make test-kernel KERNEL=vm`: how it is called, and what is said where none can be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import vm
from tools.vm import Machine, NoMachineError, obstacle_to_a_machine, package_of

DEPENDS = """linux-image-amd64
  Depends: linux-image-6.1.0-50-amd64
  Depends: something-else
"""


def test_the_package_with_the_kernel_in_it_is_found() -> None:
    assert package_of(DEPENDS) == "linux-image-6.1.0-50-amd64"
    assert package_of("") == ""


@pytest.mark.parametrize("has_kvm", [False, True])
def test_a_command_is_run_in_the_tree_with_two_processors(*, has_kvm: bool) -> None:
    words = Machine(Path("/venv/bin/vng"), Path("/boot/vmlinuz-6"), Path("/a tree"), has_kvm=has_kvm).command(
        "x", "y z"
    )
    assert words[-1].endswith("cd '/a tree' && x 'y z'")
    assert words[words.index("--cpus") + 1] == "2"
    assert ("--disable-kvm" in words) is not has_kvm


def test_missing_programs_are_named_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "busybox" else program)
    assert "`apt-get install busybox-static`" in obstacle_to_a_machine(Path("/tree"))


def test_who_is_not_root_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NoMachineError, match="sudo make test-kernel KERNEL=vm"):
        vm.machine(Path("/tree"))

"""What a process waits for, in words, as /proc tells it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from reconciler.kernel.worker.client import roughly, wait_of
from tests.unit.kernel.test_client_beside import stop

STACK = """[<0>] __switch_to+0x50/0x7f
[<0>] __schedule+0x51b/0x568
[<0>] io_schedule+0x16/0x3a
[<0>] folio_wait_bit_common+0x170/0x350
[<0>] pool_message+0x1f/0x40 [dm_thin_pool]
[<0>] target_message+0x28d/0x2e0 [dm_mod]
[<0>] ctl_ioctl+0x1d2/0x4e0 [dm_mod]
[<0>] __x64_sys_ioctl+0x8b/0xc0
[<0>] do_syscall_64+0x55/0xb0
[<0>] entry_SYSCALL_64_after_hwframe+0x6e/0xd8
"""


def process(proc: Path, pid: int, state: str, command: str = "python", children: str = "", stack: str = "") -> None:
    folder = proc / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({command} ) x) {state} 1 1", encoding="ascii")
    (folder / "comm").write_text(f"{command}\n", encoding="ascii")
    (folder / "task" / str(pid) / "children").write_text(children, encoding="ascii")
    (folder / "stack").write_text(stack, encoding="ascii")


def test_the_functions_of_the_kernel_that_it_waits_in_are_named(tmp_path: Path) -> None:
    process(tmp_path, 7, "D", stack=STACK)
    expected = "folio_wait_bit_common < pool_message < target_message < ctl_ioctl"
    assert wait_of(7, tmp_path) == f"(pid 7) waits in the kernel, in {expected}"


def test_a_kernel_that_shows_no_stack_is_no_obstacle(tmp_path: Path) -> None:
    process(tmp_path, 7, "D")
    (tmp_path / "7" / "stack").unlink()
    assert wait_of(7, tmp_path) == "(pid 7) waits in the kernel"


def test_a_program_that_it_runs_is_what_it_waits_for(tmp_path: Path) -> None:
    process(tmp_path, 7, "S", children="8 9")
    process(tmp_path, 8, "Z", "ended")
    process(tmp_path, 9, "D", "thin_check", stack=STACK)
    assert wait_of(7, tmp_path).startswith("(pid 7) waits for thin_check, which (pid 9) waits in the kernel, in folio")


def test_one_that_is_at_work_or_gone_is_said_to_be(tmp_path: Path) -> None:
    process(tmp_path, 7, "R")
    assert wait_of(7, tmp_path) == "(pid 7) is at work"
    assert wait_of(8, tmp_path) == "(pid 8) has ended"


def test_one_that_was_stopped_is_told_with_the_command_that_helps() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        stop(sleeping.pid)
        told = wait_of(sleeping.pid)
        os.kill(sleeping.pid, signal.SIGKILL)
    assert told == f"(pid {sleeping.pid}) was stopped by a signal: `kill -CONT {sleeping.pid}` lets it go on"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0 s"), (4.9, "5 s"), (5.0, "5 s"), (29.0, "20 s"), (61.0, "1 min"), (599.0, "5 min"), (9000.0, "2 h")],
)
def test_a_time_is_told_in_few_steps(seconds: float, words: str) -> None:
    assert roughly(seconds) == words

"""The program as a whole: its list of commands, its start, and what it says when something goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import click
import pytest

from reconciler import __version__
from reconciler.cli.main import COMMANDS, PROGRAM, cli, main
from reconciler.model.errors import HostError
from reconciler.sandbox import SandboxError
from reconciler.store.errors import StoreError
from reconciler.telemetry.http.server import ListenError

Program = Callable[..., subprocess.CompletedProcess[str]]
WRITTEN = [name for name in COMMANDS if find_spec(f"reconciler.cli.{name}")]
ENTRY = "import sys; from reconciler.cli.main import main; sys.exit(main())"


@pytest.mark.parametrize("name", WRITTEN)
def test_the_list_of_commands_says_what_the_command_says_of_itself(name: str) -> None:
    module = import_module(f"reconciler.cli.{name}")
    command = module.command
    assert isinstance(command, click.Command)
    assert command.name == name or command.callback is not None
    assert (module.__doc__ or "").splitlines()[0] == COMMANDS[name]
    assert (command.help or "").splitlines()[0] == COMMANDS[name]


@pytest.mark.parametrize("name", WRITTEN)
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Examples:" in said
    assert f"{PROGRAM} {name}" in said
    assert max(len(line) for line in said.splitlines()) <= 105


@pytest.mark.parametrize("args", [["--help"], ["--version"], [], ["gte"]])
def test_what_needs_no_command_imports_none(args: list[str]) -> None:
    seen = subprocess.run(
        [sys.executable, "-c", f"import sys; from reconciler.cli.main import main; main({args}); print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[-1]
    heavy = {"rich", "yaml", "pydantic", "sqlite3", "reconciler.store", "reconciler.model", "importlib.metadata"}
    assert not heavy & set(seen.split())


def test_the_version_is_told() -> None:
    assert "--version" in [option for parameter in cli.params for option in parameter.opts]


def test_the_version_is_told_in_under_twice_the_time_that_importing_click_takes() -> None:
    def seconds(code: str, *args: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *args], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    # In turn, so that whatever else the host does slows down both.
    pairs = [(seconds(ENTRY, "--version"), seconds("import click")) for _ in range(15)]
    ratio = median(own for own, _ in pairs) / median(click for _, click in pairs)
    assert ratio < 2.0


def test_the_version_is_not_asked_for_by_a_variable_that_images_like_to_set(program: Program) -> None:
    done = program("schema", DM_RECONCILER_VERSION="1")
    assert done.stdout.startswith("{")
    assert program("--version").stdout == f"{PROGRAM} {__version__}\n"


def test_without_a_command_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(name in captured.err for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["gte"], "dm-reconciler: there is no command 'gte': did you mean `dm-reconciler get`?"),
        (["xyzzy"], "dm-reconciler: there is no command 'xyzzy' (see `dm-reconciler --help`)"),
        (["--foo"], "(see `dm-reconciler --help`)"),
        (["get", "--foo"], "dm-reconciler get: No such option"),
        (["get", "tanks"], "'tanks' is neither: write `pools` or `devices`"),
        (["describe", "device"], "(see `dm-reconciler describe --help`)"),
        (["wait", "device", "x", "--timeout", "soon"], "'soon' is not a duration: write 30s, 500ms, 2m, 1h"),
        (["validate"], "(see `dm-reconciler validate --help`)"),
    ],
)
def test_wrong_usage_is_one_line_with_the_next_step(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StoreError("store x is damaged: restore it"), 1, "dm-reconciler: store x is damaged: restore it\n"),
        (SandboxError("no kernel: build one", status=124), 124, "dm-reconciler sandbox: no kernel: build one\n"),
        (ListenError("cannot listen: take another"), 1, "dm-reconciler: cannot listen: take another\n"),
        (
            HostError("reach", "device-mapper", 19),
            1,
            "dm-reconciler: reach device-mapper failed (ENODEV): `dm-reconciler doctor` says what this host lacks",
        ),
        (HostError("resume", "tank", 16), 1, "dm-reconciler: resume tank failed (EBUSY): look at the kernel's log"),
        (
            HostError("list", "device-mapper", 13),
            1,
            "dm-reconciler: list device-mapper failed (EACCES): run it as root",
        ),
        (PermissionError(13, "Permission denied", "/x"), 1, "dm-reconciler: /x: Permission denied: "),
        (KeyboardInterrupt(), 130, "\n"),
        (click.Abort(), 130, "\n"),
    ],
)
def test_what_is_expected_to_go_wrong_is_one_line_and_a_promised_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "invoke", fail)
    assert main(["schema"]) == code
    err = capfd.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_a_mistake_of_the_program_keeps_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(cli, "invoke", fail)
    with pytest.raises(LookupError):
        main(["schema"])


def test_nobody_reading_the_output_is_no_fault() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, "schema"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "dm-reconciler: No space left on device: put that right and try again\n"


def test_output_that_goes_nowhere_is_no_fault() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -c "{ENTRY}" schema >&-'],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_shell_completes_commands_kinds_and_names(program: Program, dm: object, state_dir: Path) -> None:
    del dm

    def completed(words: str) -> list[str]:
        asked = {"_DM_RECONCILER_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words.split(" ")) - 1)}
        return program(COMP_WORDS=words, **asked).stdout.split()

    assert "complete" in program(_DM_RECONCILER_COMPLETE="bash_source").stdout
    assert completed("dm-reconciler de") == ["plain,describe"]
    assert completed("dm-reconciler get po") == ["plain,pools"]
    assert completed(f"dm-reconciler get --state-dir {state_dir} pools ta") == ["plain,tank"]
    assert completed(f"dm-reconciler wait --state-dir {state_dir} device tank/d") == ["plain,tank/data"]
    assert completed("dm-reconciler get --state-dir /nowhere pools ta") == []


def test_options_can_be_set_in_the_environment(program: Program, dm: object, state_dir: Path) -> None:
    del dm
    done = program("get", "pools", DM_RECONCILER_GET_STATE_DIR=str(state_dir), DM_RECONCILER_GET_OUTPUT="json")
    assert done.returncode == 0
    assert done.stdout.startswith("{")

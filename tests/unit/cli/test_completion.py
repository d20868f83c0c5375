"""Completion as shells do it: with the files that come with the program, quick, and without writing or saying anything."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.store.store import Store

FILE = Path(__file__).parents[3] / "share/bash-completion/completions/dm-reconciler"
# What bash itself does when somebody presses Tab: the function is called with the words, and says more with compopt.
ASK = r"""
compopt() { echo "by the shell: $2"; }
source "$1"; shift
function=$(complete -p dm-reconciler | sed 's/.*-F \([^ ]*\).*/\1/')
COMP_WORDS=(dm-reconciler "$@"); COMP_CWORD=$#; COMPREPLY=()
"$function" dm-reconciler
printf '%s\n' "${COMPREPLY[@]}"
"""
NAMES = ["tank/base", "tank/data", "tank/new", "tank/old", "tank/web", "vault/web"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder for PATH with the program in it, as an installation makes it."""
    file = tmp_path / "bin/dm-reconciler"
    file.parent.mkdir()
    file.write_text(f"#!{sys.executable}\nimport sys\nfrom reconciler.cli.main import main\nsys.exit(main())\n")
    file.chmod(stat.S_IRWXU)
    return file.parent


def ask(program: Path, *words: str, **environment: str) -> list[str]:
    path = f"{program}{os.pathsep}{os.environ['PATH']}"
    tree = str(Path(__file__).parents[3])
    said = subprocess.run(
        ["bash", "--norc", "-c", ASK, "ask", str(FILE), *words],
        env={**os.environ, "PYTHONPATH": tree, **environment, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert said.stderr == ""
    return said.stdout.split("\n")[:-1] if said.stdout.strip() else []


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("de",), ["describe"]),
        (("get", "--o"), ["--output"]),
        (("get", "-o", "w"), ["wide"]),
        (("get", "de"), ["devices"]),
        (("get", "nonsense", "x"), []),
        (("no-such-command", "x"), []),
        (("wait", "device", "x", "--timeout", "nonsense", "--s"), ["--state-dir"]),
    ],
)
def test_commands_options_kinds_and_choices(program: Path, words: tuple[str, ...], completed: list[str]) -> None:
    assert ask(program, *words) == completed


@pytest.mark.parametrize(
    ("words", "by"),
    [
        (("run", "--manifests", "/e"), "dirnames"),
        (("get", "--state-dir", ""), "dirnames"),
        (("validate", "x"), "default"),
        (("sandbox", "--disk", ""), "default"),
    ],
)
def test_directories_and_files_are_left_to_the_shell(program: Path, words: tuple[str, ...], by: str) -> None:
    assert ask(program, *words)[0].startswith("by the shell: ")
    assert by in " ".join(ask(program, *words))


def test_names_come_from_the_store_which_stays_as_it_is(program: Path, store: Store, state_dir: Path) -> None:
    store.close()
    file = state_dir / "state.db"
    before = file.read_bytes(), file.stat().st_mtime_ns
    given = ("--state-dir", str(state_dir))
    assert ask(program, "get", *given, "devices", "tank/d") == ["tank/data"]
    assert ask(program, "describe", *given, "device", "") == NAMES
    assert ask(program, "forget", *given, "pool", "") == ["tank", "vault"]
    variable = {"DM_RECONCILER_APPLY_STATE_DIR": str(state_dir)}
    assert ask(program, "apply", "--manifests", "/tmp", "v", **variable) == ["vault", "vault/web"]
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


@pytest.mark.parametrize("kind", ["none", "damaged"])
def test_a_store_that_is_not_there_or_damaged_completes_nothing(program: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind == "damaged":
        folder.mkdir(mode=0o700)
        (folder / "state.db").write_bytes(b"nothing")
    assert ask(program, "get", "--state-dir", str(folder), "devices", "") == []
    assert folder.exists() == (kind == "damaged")

"""The examples of every --help: each is a command line that is understood, and does what it can do without a kernel."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from reconciler.cli import wait
from reconciler.cli.main import COMMANDS, PROGRAM, cli, main
from reconciler.store.store import Store

TREE = Path(__file__).parents[3]
LINE = re.compile(rf"^ +(?:(?P<variables>(?:[A-Z_]+=\S+ )+)|ExecStartPre=)?(?P<line>{PROGRAM} .*)$", re.MULTILINE)


def command_of(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def examples(text: str | None) -> Iterator[list[str]]:
    """Their words, without what is explained beside them and without whoever reads the output."""
    for found in LINE.finditer(text or ""):
        words = shlex.split(re.split(r" {2,}", found["line"])[0])
        ends = [number for number, word in enumerate(words) if word in {"|", ">"}]
        yield words[1 : ends[0] if ends else None]


EXAMPLES = [words for name in ("", *COMMANDS) for words in examples(command_of(name).epilog if name else cli.epilog)]
WITHOUT_A_KERNEL = {"describe", "events", "get", "schema", "tree", "validate", "wait"}
ENDLESS = {"--watch", "--follow", "-f"}


def can_be_run(words: list[str]) -> bool:
    return "simulated" in words or (words[0] in WITHOUT_A_KERNEL and not ENDLESS & set(words))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_some(name: str) -> None:
    assert [words for words in examples(command_of(name).epilog) if words[0] == name]


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_it_is_understood(words: list[str]) -> None:
    with cli.make_context(PROGRAM, list(words)) as context:
        name, command, rest = cli.resolve_command(context, words)
        assert command is not None
        command.make_context(name, rest, parent=context).close()


@pytest.fixture
def place(tmp_path: Path, state_dir: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what the examples name is there."""
    del store
    folder = tmp_path / "here"
    shutil.copytree(TREE / "manifests", folder / "manifests")
    documents = "\n---\n".join(path.read_text() for path in sorted((TREE / "manifests").glob("*.yaml")))
    (folder / "pools.yaml").write_text(documents)
    (folder / "devices.yaml").write_text("")
    nodes = tmp_path / "mapper"
    nodes.mkdir()
    (nodes / "tank").touch()
    monkeypatch.setattr(wait, "NODES", nodes)
    monkeypatch.chdir(folder)
    for name in WITHOUT_A_KERNEL:
        monkeypatch.setenv(f"DM_RECONCILER_{name.upper()}_STATE_DIR", str(state_dir))
    return folder


@pytest.mark.parametrize("words", [each for each in EXAMPLES if can_be_run(each)], ids=" ".join)
def test_it_works(words: list[str], place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert place.is_dir()
    assert main(words) == 0
    assert capfd.readouterr().out or words[0] == "wait"


def test_most_of_them_can_be_tried_without_a_kernel() -> None:
    assert len([each for each in EXAMPLES if can_be_run(each)]) > len(EXAMPLES) // 3

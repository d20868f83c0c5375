"""What README and docs name is there: commands, options, targets, files, packages; and their manifests are sound."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
import yaml

from reconciler.cli.main import COMMANDS, cli, main
from reconciler.sources.manifests.read import load
from tools.packages import PACKAGES

TREE = Path(__file__).parents[2]
PAGES = sorted([TREE / "README.md", TREE / "CHANGELOG.md", *(TREE / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
ORDINARY = {
    "chmod",
    "cp",
    "curl",
    "df",
    "dmesg",
    "dmsetup",
    "eval",
    "findmnt",
    "fstrim",
    "journalctl",
    "lsblk",
    "mkdir",
}
ORDINARY |= {"docker", "install", "kubectl", "mv", "rm"}  # deploy.md
ORDINARY |= {"pipx", "promtool", "systemctl", "thin_check", "thin_repair"}
"""Programs that examples use and that are nobody's to test."""
POOL = """\
apiVersion: dm-reconciler/v1
kind: ThinPool
metadata: {name: tank}
spec: {data: {file: /srv/tank.data, size: 1GiB}, metadata: {file: /srv/tank.meta, size: 4MiB}}
"""


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every block of code in that language, with its page's name."""
    for page in PAGES:
        for _, found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield str(page.relative_to(TREE)), text


def lines() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the examples, as words, without the variables that are set before it."""
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] == "sudo"):
                words.pop(0)
            if "|" in words:
                del words[words.index("|") :]
            if words:
                yield page, [word for word in words if word != "&"]


def named(program: str) -> list[object]:
    found = [(page, words) for page, words in lines() if words[0] == program]
    assert found, f"no example uses {program}: is it still found?"
    return [pytest.param(words[1:], id=f"{page}: {' '.join(words)}") for page, words in found]


@pytest.mark.parametrize("words", named("dm-reconciler"))
def test_a_command_of_an_example_is_there_with_its_options(words: list[str]) -> None:
    if not words or words[0].startswith("--"):
        assert main(words or ["--help"]) == 0
        return
    assert words[0] in COMMANDS
    command: click.Command = import_module(f"reconciler.cli.{words[0]}").command
    with (
        click.Context(cli, info_name="dm-reconciler") as parent,
        command.make_context(words[0], ["--help"], parent=parent, resilient_parsing=True) as context,
    ):
        command.make_parser(context).parse_args(words[1:])  # raises for an option that is not there
    assert main([words[0], "--help"]) == 0


@pytest.mark.parametrize("words", named("make"))
def test_a_target_of_an_example_is_in_the_makefile(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (TREE / "Makefile").read_text(), re.MULTILINE)
    variables = {"ALLOW_NO_KERNEL", "ARGS", "KERNEL", "MINUTES", "RELEASE", "SAMPLE", "SEED", "SEEDS"}
    assert words[0] in targets
    assert {word.partition("=")[0] for word in words[1:]} <= variables


@pytest.mark.parametrize("words", named("apt-get"))
def test_a_package_of_an_example_is_one_that_setup_knows(words: list[str]) -> None:
    assert words[0] == "install"
    assert set(words[1:]) <= {"pipx", *(package.name for package in PACKAGES)}


def test_examples_use_no_other_programs() -> None:
    assert {words[0] for _, words in lines()} <= {"dm-reconciler", "make", "apt-get", *ORDINARY}


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=page) for page, text in blocks("yaml") if "apiVersion: dm-reconciler/v1" in text]
)
def test_a_manifest_of_an_example_is_sound(text: str, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(text)
    kinds = {document["kind"] for document in yaml.safe_load_all(text)}
    if "ThinPool" not in kinds:
        (tmp_path / "pool.yaml").write_text(POOL)
    assert load(tmp_path).problems == ()


def test_the_manifests_of_the_tree_are_sound() -> None:
    assert main(["validate", str(TREE / "manifests")]) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
def test_a_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_the_architecture_names_what_is_there() -> None:
    text = (TREE / "docs/architecture.md").read_text(encoding="utf-8")
    names = [name for name in re.findall(r"`([\w./-]+)`", text) if "/" in name or name.startswith(".")]
    assert len(names) > len(COMMANDS)
    assert [name for name in names if not (TREE / name).exists()] == []


def test_the_way_of_a_record_is_walked_by_names_that_are_there() -> None:
    text = (TREE / "docs/architecture.md").read_text(encoding="utf-8")
    walk = re.findall(r"^\| \d+ \| .+ \| `([\w/.]+)` \| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(walk) > 30
    assert [f"{file}: {name}" for file, name in walk if not _defines(TREE / file, name)] == []
    assert len({file for file, _ in walk}) <= 40


def _defines(file: Path, name: str) -> bool:
    """Whether the file has this function or class, or this method of a class."""
    body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
        if not found:
            return False
        body = found[0].body
    return True


def test_what_a_contributor_is_sent_to_is_there() -> None:
    text = (TREE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = [
        name
        for name in re.findall(r"`((?:reconciler|tests|docs|tools|grafana)/[\w./*-]+)`", text)
        if "NAME" not in name
    ]
    assert len(names) > 30
    assert [name for name in names if not any(TREE.glob(name.rstrip("/")))] == []


def test_the_architecture_names_every_layer() -> None:
    text = (TREE / "docs/architecture.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `reconciler/(\w+)/` \|", text, re.MULTILINE)
    assert set(table) == {path.parent.name for path in (TREE / "reconciler").glob("*/__init__.py")}


def test_every_target_of_the_makefile_says_what_it_does() -> None:
    text = (TREE / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE) == phony.split()

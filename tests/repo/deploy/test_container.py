"""deploy/container: nothing here can build it, so each of its steps is held against what is known of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from reconciler import __version__
from reconciler.cli.run import command
from reconciler.kernel.programs import _PACKAGES
from tools.packages import PACKAGES

TREE = Path(__file__).parents[3]
FOLDER = TREE / "deploy/container"
HOSTS = {"udev", "kmod"}
"""What `make setup` wants and a container does not have: its host runs udev, and loads modules."""
BUILDING = {"gcc", "make", "python3-dev", "python3-pip", "python3-venv", "python3-wheel"}
LONE = {"libblkid1", "libudev1", "python3"}
"""Libraries, which a whole Debian has anyway, and the interpreter."""


def instructions() -> list[list[tuple[str, str]]]:
    """Of each stage, in order: the instruction's name and its words, on one line."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    stages: list[list[tuple[str, str]]] = [[]]
    for line in lines:
        name, _, words = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, words.strip()))
    return stages[1:]


BUILD, IMAGE = instructions()


def said(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [words for instruction, words in stage if instruction == name]


def installed(stage: list[tuple[str, str]]) -> set[str]:
    """Debian's packages."""
    commands = [part.split() for words in said(stage, "RUN") for part in words.split("&&")]
    found = [words for words in commands if words[:2] == ["apt-get", "install"]]
    return {word for words in found for word in words[2:] if not word.startswith("--")}


def test_every_package_is_one_of_debian_bookworms() -> None:
    system = Path("/etc/os-release").read_text(encoding="utf-8")
    if "VERSION_CODENAME=bookworm" not in system or not shutil.which("apt-cache"):
        pytest.skip("THE IMAGE'S PACKAGES WERE NOT LOOKED UP: this is no Debian bookworm")
    wanted = installed(BUILD) | installed(IMAGE)
    known = subprocess.run(["apt-cache", "policy", *sorted(wanted)], check=True, capture_output=True, text=True).stdout
    candidates = set(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (?!\(none\))", known, re.MULTILINE))
    assert wanted - candidates == set()


def test_it_has_what_the_program_needs_and_nothing_to_build_with() -> None:
    runtime = {one.name for one in PACKAGES if not one.sandbox and not one.why.startswith(("tests", "demo"))} - HOSTS
    assert set(_PACKAGES.values()) <= runtime
    assert installed(IMAGE) == runtime | LONE
    assert installed(IMAGE) & BUILDING == set()
    assert "pip uninstall --yes pip" in " ".join(said(BUILD, "RUN"))


def test_nobody_is_asked_and_no_lists_are_left() -> None:
    for stage in (BUILD, IMAGE):
        for words in said(stage, "RUN"):
            if "apt-get install" in words:
                assert "DEBIAN_FRONTEND=noninteractive" in words
                assert "--yes --no-install-recommends" in words
                assert words.endswith("rm -rf /var/lib/apt/lists/*")


def test_it_is_labelled_and_says_which_version_it_is() -> None:
    assert said(IMAGE, "ARG") == [f"VERSION={__version__}"]
    labels = dict(word.split("=", 1) for words in said(IMAGE, "LABEL") for word in shlex.split(words))
    assert labels["org.opencontainers.image.version"] == "${VERSION}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.title"] == "dm-reconciler"


def test_it_runs_the_daemon_with_settings_that_it_has() -> None:
    assert said(IMAGE, "ENTRYPOINT") == ['["dm-reconciler"]']
    assert said(IMAGE, "CMD") == ['["run"]']
    environment = dict(word.split("=", 1) for words in said(IMAGE, "ENV") for word in words.split())
    options = {f"DM_RECONCILER_RUN_{one.name}".upper(): one for one in command.params}
    settings = {name: value for name, value in environment.items() if name.startswith("DM_")}
    assert settings.keys() <= options.keys()
    assert settings["DM_RECONCILER_RUN_LISTEN"] == options["DM_RECONCILER_RUN_LISTEN"].default


def test_the_build_copies_what_is_there_and_the_context_has_it() -> None:
    copied = [word.rstrip("/") for words in said(BUILD, "COPY") for word in words.split()[:-1]]
    assert [word for word in copied if not (TREE / word).exists()] == []
    kept = re.findall(r"^!(.+)$", (FOLDER / "Containerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(kept) == sorted(word.removeprefix("./") for word in copied)


# HEALTHCHECK


class Health(BaseHTTPRequestHandler):
    answer = 200

    def do_GET(self) -> None:  # the library's name
        self.send_response(self.answer if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: a test's output is its own."""


@pytest.mark.parametrize(("answer", "code"), [(200, 0), (503, 1)])
def test_the_health_check_is_the_answer_of_healthz(answer: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = said(IMAGE, "HEALTHCHECK")
    program, option, script = json.loads(words.partition("CMD ")[2])
    assert (program, option) == ("/opt/dm-reconciler/bin/python", "-c")
    monkeypatch.setattr(Health, "answer", answer)
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        where = {**os.environ, "DM_RECONCILER_RUN_LISTEN": f"127.0.0.1:{server.server_port}"}
        done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, env=where)
        thread.join()
    assert done.returncode == code, done.stderr


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of what the build stage copies, and of nothing else in the tree."""
    source, built = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("built")
    for words in said(BUILD, "COPY"):
        *froms, to = words.split()
        for name in froms:
            target = source / to if len(froms) == 1 else source / to / name
            if (TREE / name).is_dir():
                shutil.copytree(TREE / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(TREE / name, target)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)]
    done = subprocess.run(build, cwd=source, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = built.glob("*.whl")
    return found


def test_the_wheel_has_every_file_of_the_program_and_no_other(wheel: Path) -> None:
    every = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    names = {name for name in every if ".data/" not in name}
    shared = {name.partition(".data/data/")[2] for name in every if ".data/" in name}
    assert shared == {str(path.relative_to(TREE)) for path in (TREE / "share").rglob("*") if path.is_file()}
    files = {path for path in (TREE / "reconciler").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names == {str(path.relative_to(TREE)) for path in files}
    assert {"reconciler/py.typed", "reconciler/sandbox/xstate_shim.c"} <= names


def test_the_wheel_installs_and_says_its_version(wheel: Path, tmp_path: Path) -> None:
    """As the build stage does, but with what it depends on lent by this environment: no index is asked."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    python = tmp_path / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (packages,) = (tmp_path / "lib").glob("python*/site-packages")
    lent = Path(pytest.__file__).parents[1]
    (packages / "lent.pth").write_text(f"{lent}\n", encoding="utf-8")
    program = tmp_path / "bin/dm-reconciler"
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert __version__ in version
    where = [str(python), "-c", "import reconciler; print(reconciler.__file__)"]
    told = subprocess.run(where, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert told.startswith(str(tmp_path))
    subprocess.run([program, "validate", TREE / "manifests"], check=True, capture_output=True)
    assert (tmp_path / "share/man/man8/dm-reconciler.8").exists()

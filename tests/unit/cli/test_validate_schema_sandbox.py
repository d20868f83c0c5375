"""`validate`, `schema` and `sandbox`: they need neither a store nor a host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import reconciler.sandbox.command
from reconciler.cli.main import main
from reconciler.sandbox import SandboxError

POOL = """\
apiVersion: dm-reconciler/v1
kind: ThinPool
metadata: {name: tank}
spec:
  data: {file: /srv/tank.data, size: 1GiB}
  metadata: {file: /srv/tank.meta, size: 8MiB}
  nodes: ["web-*"]
"""
DEVICE = """\
---
apiVersion: dm-reconciler/v1
kind: ThinDevice
metadata: {name: base}
spec: {pool: tank, size: 1GiB}
"""


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "tank.yaml").write_text(POOL + DEVICE)
    return folder


def validate(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main(["validate", *map(str, args)])
    return (code, *capsys.readouterr())


def test_valid_manifests_are_counted(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(capsys, manifests) == (0, "2 records in 1 file are valid\n", "")
    (manifests / "base.yml").write_text(DEVICE.removeprefix("---\n"))
    (manifests / "tank.yaml").write_text(POOL)
    assert validate(capsys, manifests / "tank.yaml") == (0, "1 record in 1 file is valid\n", "")
    assert validate(capsys, "--node", "web-1", manifests) == (
        0,
        "2 records in 2 files are valid, 2 of them for web-1\n",
        "",
    )
    assert "0 of them for db-1" in validate(capsys, "--node", "db-1", manifests)[1]


def test_each_problem_is_a_line_on_stderr(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = manifests / "tank.yaml"
    file.write_text(POOL + DEVICE.replace("size: 1GiB", "size: 1GB, colour: red"))
    code, out, err = validate(capsys, manifests)
    assert (code, out) == (3, "")
    assert [line.split(" ")[0] for line in err.splitlines()] == [f"{file}:12:26:", f"{file}:12:31:"]
    assert "spec.size: '1GB' is not a binary unit: write 1GiB" in err


def test_what_is_not_there_is_invalid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = validate(capsys, tmp_path / "none")
    assert (code, "no such file or directory" in err) == (3, True)


def test_who_may_write_the_files_is_for_the_host_to_ask(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifests.chmod(0o777)
    (manifests / "tank.yaml").chmod(0o666)
    assert validate(capsys, manifests)[0] == 0


def test_a_directory_without_manifests_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = validate(capsys, tmp_path)
    assert (code, "there is no *.yaml or *.yml file there" in out) == (0, True)


def test_a_disk_that_is_named_by_its_number_is_told_and_is_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "disks.yaml"
    stable = "/dev/disk/by-id/wwn-0x1"
    file.write_text(
        POOL.replace("file: /srv/tank.data, size: 1GiB", "device: /dev/sdzz").replace('["web-*"]', '["web"]')
    )
    code, out, err = validate(capsys, file)
    assert (code, len(err.splitlines())) == (0, 1)
    assert "tank: spec.data.device: /dev/sdzz may be another disk after the next boot" in err
    assert "1 record in 1 file is valid" in out
    file.write_text(file.read_text().replace("/dev/sdzz", stable))
    assert validate(capsys, file)[2] == ""


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the sandbox was asked for. Booting it is what its own tests do."""
    seen: dict[str, Any] = {}

    def run(command: Sequence[str], **options: object) -> int:
        seen.update(options, command=list(command))
        return 7

    monkeypatch.setattr(reconciler.sandbox.command, "run", run)
    return seen


def test_the_sandbox_passes_on_its_commands_status(asked: dict[str, Any], tmp_path: Path) -> None:
    args = ["--share", str(tmp_path), "--mem", "512M", "--timeout", "2m", "--", "ls", "-l", "--share"]
    assert main(["sandbox", *args]) == 7
    assert asked == {
        "command": ["ls", "-l", "--share"],
        "share": (tmp_path,),
        "memory": "512M",
        "disks": (),
        "timeout": 120.0,
    }


def test_options_behind_the_command_are_its_own(asked: dict[str, Any]) -> None:
    assert main(["sandbox", "ls", "--mem"]) == 7
    assert asked["command"] == ["ls", "--mem"]


def test_without_a_command_it_is_a_shell(asked: dict[str, Any]) -> None:
    assert main(["sandbox"]) == 7
    assert asked["command"] == []


def test_a_sandbox_that_cannot_start_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object, **__: object) -> int:
        raise SandboxError("no kernel: build one", status=1)

    monkeypatch.setattr(reconciler.sandbox.command, "run", run)
    assert main(["sandbox"]) == 1
    assert capsys.readouterr().err == "dm-reconciler sandbox: no kernel: build one\n"

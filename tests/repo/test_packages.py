"""`make setup`: what it installs does not begin to run on a developer's host."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tools import packages
from tools.packages import PACKAGES, install

PROMETHEUS = next(package for package in PACKAGES if package.name == "prometheus")
OTHER = next(package for package in PACKAGES if package.name == "dmsetup")


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the host's programs were asked for, a line each. None of them is real."""
    said = tmp_path / "said"
    for name in ("apt-get", "systemctl"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{said}"\n')
        program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(packages, "_become_root", list)
    monkeypatch.setattr(packages, "LISTS", str(tmp_path / "bin/*"))
    monkeypatch.setattr(packages, "SYSTEMD", tmp_path)
    return said


def asked(said: Path) -> list[str]:
    """The programs with what they were to do: their first word that is no option."""
    verbs = {"disable", "install", "mask", "unmask"}
    return [" ".join([line.split()[0], *(word for word in line.split() if word in verbs)]) for line in lines(said)]


def lines(said: Path) -> list[str]:
    return said.read_text().splitlines()


def test_a_service_that_debian_would_start_is_kept_from_it(said: Path) -> None:
    assert install([PROMETHEUS, OTHER])
    assert asked(said) == ["systemctl mask", "apt-get install", "systemctl unmask", "systemctl disable"]
    assert all(line.endswith(" prometheus.service") for line in lines(said) if line.startswith("systemctl"))


def test_without_such_a_service_or_without_systemd_nobody_is_asked(
    said: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install([OTHER])
    monkeypatch.setattr(packages, "SYSTEMD", tmp_path / "none")
    assert install([PROMETHEUS])
    assert asked(said) == ["apt-get install", "apt-get install"]

"""Text without quotes that one reader of YAML takes for a number and another one does not: a record is the same to all."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.sources.manifests.read import load

DEVICE = """\
apiVersion: dm-reconciler/v1
kind: ThinPool
metadata: {{name: tank}}
spec:
  data: {{file: /srv/d, size: 2GiB}}
  metadata: {{file: /srv/m, size: 32MiB}}
---
apiVersion: dm-reconciler/v1
kind: ThinDevice
metadata:
  name: {name}
spec:
  pool: tank
  size: 1GiB
"""
NUMBERS_TO_SOME = ("1e3", "1E5", "12e03", "0o17", "0x10", "0b11", "010", "08", "1_000", "12:30:45", "1:30.5", "1_0.5")
NUMBERS_TO_ALL = ("7", "1.5", "1.", "1.5e+3")
TRUTHS = ("yes", "no", "on", "off", "true", "FALSE")
NAMES = ("a1", "1a", "1-2", "1.2.3", "e3", "0o8x", "2026-11-27", "y", "n")
"""y and n are text to PyYAML, and to kubectl and yq, which take YAML 1.2's words for true and false."""


def problems(tmp_path: Path, name: str) -> list[str]:
    (tmp_path / "a.yaml").write_text(DEVICE.format(name=name), encoding="utf-8")
    return [str(problem) for problem in load(tmp_path).problems]


def names(tmp_path: Path) -> set[str]:
    records = load(tmp_path).records
    assert records is not None
    return {str(record.key) for record in records}


@pytest.mark.parametrize("name", NUMBERS_TO_SOME)
def test_a_number_to_some_readers_must_be_quoted(tmp_path: Path, name: str) -> None:
    (problem,) = problems(tmp_path, name)
    assert "a.yaml:11:9: metadata.name: " in problem
    assert "quote it" in problem


@pytest.mark.parametrize("name", [*NUMBERS_TO_ALL, *TRUTHS])
def test_a_number_or_truth_is_told_to_be_no_text(tmp_path: Path, name: str) -> None:
    (problem,) = problems(tmp_path, name)
    assert f'not text: write "{name}"' in problem


@pytest.mark.parametrize("name", ["null", "~", ""])
def test_nothing_is_told_to_be_empty(tmp_path: Path, name: str) -> None:
    (problem,) = problems(tmp_path, name)
    assert "metadata.name: empty" in problem


@pytest.mark.parametrize("name", [*NUMBERS_TO_SOME[:8], *TRUTHS, "7", "1.5", "null"])
def test_in_quotes_it_is_a_name(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, f'"{name}"') == []
    assert f"tank/{name}" in names(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_what_all_readers_take_for_text_needs_no_quotes(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, name) == []
    assert f"tank/{name}" in names(tmp_path)

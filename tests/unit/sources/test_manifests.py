"""Loading manifests: what is read, in which order, and what comes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.sources.manifests.read import Loaded, load
from tests.unit.sources.manifests import DEVICE, POOL

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "manifests"
REFERENCE = ROOT / "docs" / "reference" / "manifests.md"
KEYS = [Key("tank"), Key("tank", "app")]


def keys(loaded: Loaded) -> list[Key]:
    assert [str(problem) for problem in loaded.problems] == []
    assert loaded.records is not None
    return [record.key for record in loaded.records]


def test_the_examples_are_sound() -> None:
    loaded = load(EXAMPLES, trust=False)
    assert {str(key) for key in keys(loaded)} >= {"tank", "vault", "tank/base", "tank/app", "tank/scratch"}


def test_the_examples_of_the_reference_are_sound(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", REFERENCE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "a.yaml").write_text("---\n".join(blocks))
    assert keys(load(tmp_path)) == [Key("tank"), Key("tank", "base")]


def test_the_reference_shows_a_problem_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    text = (EXAMPLES / "10-tank.yaml").read_text()
    (folder / "10-tank.yaml").write_text(text.replace("size: 256MiB", "size: 256MB", 1))
    monkeypatch.chdir(tmp_path)
    [problem] = load(Path("manifests")).problems
    assert f"```\n{problem}\n```" in REFERENCE.read_text()


def test_records_may_be_in_one_file_or_in_many(tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    (one / "all.yaml").write_text(f"---\n{POOL}---\n---\n# nothing\n---\n{DEVICE}...\n")
    (many / "1.yml").write_text(DEVICE)
    (many / "2.yaml").write_text(POOL)
    assert load(one).records == load(many).records
    assert keys(load(one)) == KEYS


def test_files_are_read_in_name_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "10.yaml", "9.yaml"):
        (tmp_path / name).touch()
    loaded = load(tmp_path)
    assert [Path(file).name for file in loaded.files] == ["10.yaml", "9.yaml", "a.yml", "b.yaml"]


@pytest.mark.parametrize(
    "name", [".x.yaml", ".x.yaml.swp", "x.yaml~", "#x.yaml#", ".#x.yaml", "4913", "x.json", "README", "x.yaml.bak"]
)
def test_what_editors_and_others_leave_there_is_skipped(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{{{ not YAML")
    (tmp_path / "subdirectory").mkdir()
    assert load(tmp_path).files == ()
    assert keys(load(tmp_path)) == []


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    assert keys(load(tmp_path)) == []


def test_a_file_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + f"{POOL}---\n{DEVICE}".replace("\n", "\r\n").encode())
    assert keys(load(tmp_path)) == KEYS


def test_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    text = POOL.replace("2GiB", "&size 2GiB") + "  extend: {threshold: 80%, step: 20%, max: *size}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert keys(load(tmp_path)) == [Key("tank")]


def test_words_of_yaml_1_1_are_truth_values(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{POOL}---\n{DEVICE}  readOnly: yes\n")
    records = load(tmp_path).records
    assert records is not None
    assert records.devices[Key("tank", "app")].spec.read_only


def test_the_digest_changes_with_names_and_contents_only(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POOL)
    first = load(tmp_path).digest
    path.touch()
    assert load(tmp_path).digest == first
    path.rename(tmp_path / "b.yaml")
    renamed = load(tmp_path).digest
    (tmp_path / "b.yaml").write_text(POOL + "  paused: true\n")
    assert len({first, renamed, load(tmp_path).digest}) == 3


def test_files_and_directories_can_be_named_together(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.yaml").write_text(POOL)
    (tmp_path / "device.txt").write_text(DEVICE)
    assert keys(load(folder, tmp_path / "device.txt")) == KEYS


def test_a_file_that_is_named_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(POOL)
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert keys(load(tmp_path / "link.yaml")) == [Key("tank")]


def test_many_records_load_soon(tmp_path: Path) -> None:
    devices = "".join(f"---\n{DEVICE.replace('app', f'd{number}')}" for number in range(2000))
    (tmp_path / "a.yaml").write_text(POOL + devices)
    assert len(keys(load(tmp_path))) == 2001

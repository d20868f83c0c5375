"""Whatever a manifest holds, loading it gives records or problems, and never an error."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.sources.manifests.read import Loaded, load
from tests.unit.sources.manifests import RECORDS


def sound(loaded: Loaded) -> bool:
    """Either records or problems, each in one printable line."""
    lines = [str(problem) for problem in loaded.problems]
    return (loaded.records is None) == bool(lines) and all(line.isprintable() for line in lines)


reused = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
yamlish = st.lists(
    st.sampled_from([
        *("---\n", "a", "b: ", "- ", "[", "]", "{", "}", ", ", '"', "'", "\n", "\n  ", "\n    ", "&a ", "*a", "!x ", "? "),
        *("<<: ", "|\n", ">\n", "# c", "%YAML 1.1\n", "\t", "~", "yes", "0x1", "1.5", "2024-01-01", "\u2028", "\x85"),
        *("kind: ThinPool\n", "kind: ThinDevice\n", "spec:\n", "metadata: {name: a}\n", "size: 1\n", *RECORDS.split("---\n")),
    ]),
    max_size=30,
).map("".join)  # fmt: skip


@reused
@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_records_or_problems(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    assert sound(load(tmp_path))


@reused
@given(yamlish)
def test_any_text_like_yaml_gives_records_or_problems(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert sound(load(tmp_path))


@reused
@given(st.data())
def test_a_record_that_is_cut_or_changed_anywhere_gives_records_or_problems(
    tmp_path: Path, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(RECORDS)))
    end = data.draw(st.integers(start, len(RECORDS)))
    (tmp_path / "a.yaml").write_text(RECORDS[:start] + data.draw(yamlish) + RECORDS[end:])
    assert sound(load(tmp_path))

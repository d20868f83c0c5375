"""`make docs`: the pages as a site."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.site_links import without_links_out

TREE = Path(__file__).parents[2]


def build(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)]
    return subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    shutil.copytree(TREE / "docs", tree / "docs")
    (tree / "tools").mkdir()
    for name in ("mkdocs.yml", "tools/site_links.py"):
        shutil.copy(TREE / name, tree / name)
    return tree


def test_every_page_is_in_the_site_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = build(TREE, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(TREE / "docs").with_suffix(".html") for path in (TREE / "docs").rglob("*.md")}
    assert all((tmp_path / page).exists() for page in pages)


@pytest.mark.parametrize("link", ["[a page](reference/nothing.md)", "[a part](deploy.md#nothing)"])
def test_a_link_that_leads_nowhere_fails_it(copy: Path, tmp_path: Path, link: str) -> None:
    with (copy / "docs/index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    done = build(copy, tmp_path / "site")
    assert done.returncode != 0
    assert "nothing" in done.stderr


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[tests/](../tests)", "tests/"),
        ("see [the rules](../grafana/alerts/x.rules.yml)", "see the rules (`grafana/alerts/x.rules.yml`)"),
        ("[deploy](deploy.md#upgrade)", "[deploy](deploy.md#upgrade)"),
        ("[a site](https://example.org/x)", "[a site](https://example.org/x)"),
    ],
)
def test_what_is_on_no_page_is_shown_as_its_path(written: str, shown: str) -> None:
    assert without_links_out(written, "") == shown

"""A hook of mkdocs: links to what is in the tree and on no page are shown as the path, as the site has no such file."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Final

_LINK: Final = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    folder = posixpath.dirname(page.file.src_uri)
    return without_links_out(markdown, folder)


def without_links_out(markdown: str, folder: str) -> str:
    """`folder` is the page's own, below docs/."""

    def shown(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link["target"]))
        if path.startswith("docs/"):
            return link[0]
        return link["text"] if path.split("/")[-1] in link["text"] else f"{link['text']} (`{path}`)"

    return _LINK.sub(shown, markdown)

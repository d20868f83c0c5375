"""The status page: static files without a build step, and without anything from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The Content-Security-Policy of the page: only its own files and server, and no text is ever interpreted as markup."""

_INDEX: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    type: str
    content: bytes


def page_files() -> dict[str, PageFile]:
    """The files by the path that each is served under: `/` is the page, all others are in `/page/`."""
    found: dict[str, PageFile] = {}
    for file in files(__package__).iterdir():
        kind = _TYPES.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            path = "/" if file.name == _INDEX else f"/page/{file.name}"
            found[path] = PageFile(kind, file.read_bytes())
    return found

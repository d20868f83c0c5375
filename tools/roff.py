"""Text and simple Markdown as the source of a manual page: man(7), as groff and mandoc both read it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

_ESCAPES: Final = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}
)
_CODE: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]*\)")

_WIDTH: Final = 78


def escaped(text: str) -> str:
    """As it stands there, so that what is copied from the page can be typed."""
    safe = text.translate(_ESCAPES)
    return rf"\&{safe}" if safe.startswith(".") else safe


def bold(text: str) -> str:
    return rf"\fB{escaped(text)}\fR"


def italic(text: str) -> str:
    return rf"\fI{escaped(text)}\fR"


def prose(text: str) -> str:
    """Sentences, with `code` in bold and links as their words."""
    flat = _LINK.sub(r"\1", " ".join(text.split()))
    parts = _CODE.split(flat)
    line = "".join(bold(part) if number % 2 else part.translate(_ESCAPES) for number, part in enumerate(parts))
    lines = textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(rf"\&{each}" if each.startswith(".") else each for each in lines)


def page(lines: Iterable[str]) -> str:
    """The source. Below a heading, a paragraph begins by itself."""
    kept: list[str] = []
    for line in lines:
        if line not in {".PP", ".br"} or not kept[-1].startswith((".SH", ".SS")):
            kept.append(line)
    return "\n".join(kept) + "\n"


def verbatim(lines: list[str]) -> Iterator[str]:
    yield ".PP"
    yield ".EX"
    yield from (escaped(line.rstrip()) for line in lines)
    yield ".EE"


def item(term: str, text: str) -> Iterator[str]:
    """`term` is roff already."""
    yield ".TP"
    yield term
    yield prose(text)


def help_text(text: str) -> Iterator[str]:
    r"""What click shows: paragraphs, of which those that begin with \b keep their lines."""
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from verbatim(paragraph.removeprefix("\b\n").splitlines())
        else:
            yield ".PP"
            yield prose(paragraph.removeprefix("\b"))


def markdown(text: str) -> Iterator[str]:
    """A section of a page of the reference: paragraphs, tables of two columns, and blocks of code."""
    for number, part in enumerate(re.split(r"^```\w*\n", text, flags=re.MULTILINE)):
        if number % 2:
            yield from verbatim(part.splitlines())
            continue
        for is_row, group in groupby(part.splitlines(), key=lambda line: line.startswith("|")):
            lines = list(group)
            if is_row:
                yield from _table(lines)
            elif any(lines):
                yield from help_text("\n".join(lines))


def _table(lines: list[str]) -> Iterator[str]:
    for line in lines[2:]:  # below the head and its rule
        first, second = (cell.strip() for cell in line.strip("|").split("|"))
        yield from item(prose(first), second)

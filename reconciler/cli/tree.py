"""Show pools, origins and their snapshots as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from reconciler.cli.console import Cell, clean, console, note, on_terminal, say
from reconciler.cli.format import ready_mark, size_text
from reconciler.cli.params import state_dir_option
from reconciler.cli.view import Seen, as_of_now, freshness, look, reading, tell
from reconciler.model.conditions import DeviceStatus, PoolStatusReport
from reconciler.model.names import Key

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree as RichTree

_EPILOG: Final = """\b
[ok] as desired   [!!] not as desired   [--] left alone on purpose   [??] not looked at yet

\b
Examples:
  dm-reconciler tree
  dm-reconciler tree | grep -F '[!!]'
"""


@dataclass(slots=True)
class Branch:
    seen: Seen
    note: str = ""
    below: list[Branch] = field(default_factory=list)


@click.command("tree", epilog=_EPILOG)
@state_dir_option
def command(state_dir: Path) -> None:
    """Show pools, origins and their snapshots as a tree."""
    with reading(state_dir) as store:
        fresh = freshness(state_dir)
        branches = grow(as_of_now(look(store), fresh))
    tell(fresh)
    if not branches:
        note("no records yet: the daemon has found none in its manifests")
    elif on_terminal():
        _print_rich(branches)
    else:
        for line in _indented(branches):
            say(line)


def grow(seen: Mapping[Key, Seen]) -> list[Branch]:
    """The tree: devices below their origins, all others below their pools."""
    branches = {key: Branch(one) for key, one in seen.items()}
    roots: list[Branch] = []
    for key, branch in branches.items():
        if not key.device:
            roots.append(branch)
            continue
        above = Key(key.pool, branch.seen.origin) if branch.seen.origin else None
        if above is not None and above not in branches:
            branch.note = f"snapshot of {above.device}, which is gone"
        if above is None or above not in branches or _turns_in_circles(seen, key):
            above = Key(key.pool)
        # A device whose pool is unknown still gets its line.
        branches[above].below.append(branch) if above in branches else roots.append(branch)
    return roots


def _turns_in_circles(seen: Mapping[Key, Seen], start: Key) -> bool:
    """Whether the origins form a circle, which is possible because they were seen at different times."""
    key, met = start, set[Key]()
    while key in seen and key.device and key not in met:
        met.add(key)
        key = Key(key.pool, seen[key].origin)
    return key in met


def _label(branch: Branch) -> list[Cell]:
    """The label of a branch: a mark, the name, its state, and further details."""
    seen, status = branch.seen, branch.seen.status
    name = seen.key.device or seen.key.pool
    about = ", ".join(clean(text) for text in _about(seen, branch.note) if text)
    return [ready_mark(status), Cell(name, "bold"), Cell(about)]


def _about(seen: Seen, text: str) -> Iterator[str]:
    status = seen.status
    if status is None:
        yield f"desired {seen.desired}" if seen.desired else ""
        yield "not looked at yet"
        return
    if status.ready:
        yield seen.desired or status.live.value
    else:
        yield status.live.value
        yield f"desired {seen.desired}" if seen.desired and seen.desired != status.live.value else ""
        yield status.reason.value
    yield _sizes(seen)
    yield text


def _sizes(seen: Seen) -> str:
    match seen.status:
        case PoolStatusReport(data_used=used, data_size=size) if used is not None and size is not None:
            return f"{size_text(used)} of {size_text(size)}"
        case DeviceStatus(size=size, mapped=mapped) if size is not None:
            return size_text(size) + (f", {size_text(mapped)} mapped" if mapped is not None else "")
        case _:
            return ""


def _indented(branches: list[Branch], depth: int = 0) -> Iterator[str]:
    for branch in branches:
        yield "  " * depth + " ".join(cell.text for cell in _label(branch) if cell.text)
        yield from _indented(branch.below, depth + 1)


def _print_rich(branches: list[Branch]) -> None:
    from rich.tree import Tree  # noqa: PLC0415  # only where it is shown

    terminal = console()
    for branch in branches:
        root = Tree(_text(branch), guide_style="dim")
        _add(root, branch.below)
        terminal.print(root)


def _add(tree: RichTree, branches: list[Branch]) -> None:
    for branch in branches:
        _add(tree.add(_text(branch)), branch.below)


def _text(branch: Branch) -> Text:
    from rich.text import Text as RichText  # noqa: PLC0415  # only where it is shown

    return RichText(" ").join(RichText(cell.text, cell.style) for cell in _label(branch))

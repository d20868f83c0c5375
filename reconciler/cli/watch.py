"""`get --watch`: the listing drawn anew on a terminal, and elsewhere what has changed."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from time import monotonic
from typing import Final

from reconciler.cli.console import console, note, on_terminal, say
from reconciler.cli.eyes import Eyes
from reconciler.cli.freshness import Freshness, as_of_now, freshness
from reconciler.cli.listing import print_listing, visible
from reconciler.cli.view import Seen, find, of_kind
from reconciler.model.names import Key

_AGES: Final = 10.0
"""Seconds after which a terminal is drawn anew though nothing has changed: how long ago something was has."""
_ASKED_EVERY: Final = 2.0
"""Seconds between two questions whether what the store says is of now."""
_CLEAR, _HOME, _END_OF_LINE, _BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
_Listing = dict[Key, Seen]


def follow(eyes: Eyes, kind: str, name: str | None, output: str) -> None:
    """Until Ctrl-C. Raises Failure for a name that nothing has at first."""
    if on_terminal() and output in {"table", "wide"} and not console().is_dumb_terminal:
        _draw_each(eyes, kind, name, output)
    else:
        _print_changes(eyes, kind, name, output)


def _print_changes(eyes: Eyes, kind: str, name: str | None, output: str) -> None:
    before: dict[Key, object] = {}
    for listing in _looks(eyes, kind, name, note):
        now = {key: visible(one, output) for key, one in listing.items()}
        gone = [Seen(key) for key in before if key not in now]
        changed = gone + [one for key, one in listing.items() if before.get(key) != now[key]]
        if changed:
            print_listing(changed, output, stream=True)
        before = now


def _draw_each(eyes: Eyes, kind: str, name: str | None, output: str) -> None:
    before: object = None
    drawn = -_AGES
    sys.stdout.write(_CLEAR)
    said: list[str] = []
    for now in _looks(eyes, kind, name, said.append):
        shown = now, console().size, len(said)
        if shown != before or monotonic() - drawn >= _AGES:
            _draw(list(now.values()), output, said[-1] if said else "")
            before, drawn = shown, monotonic()


def _draw(listing: list[Seen], output: str, stale: str) -> None:
    """Over what is there, in one go: a screen that is cleared first flickers."""
    with redirect_stdout(_Frame()) as frame:
        print_listing(listing, output)
        if not listing:
            say("no records yet: the daemon has found none in its manifests")
        if stale:
            say(stale)
    sys.stdout.write(_HOME + frame.getvalue().replace("\n", f"{_END_OF_LINE}\n") + _BELOW)
    sys.stdout.flush()


class _Frame(io.StringIO):
    """Text for the terminal, kept until all of it is there."""

    def isatty(self) -> bool:
        return True


def _looks(eyes: Eyes, kind: str, name: str | None, tell: Callable[[str], None]) -> Iterator[_Listing]:
    """What is asked for, as it is, again and again. `tell` hears when it is not of now any more, and when it is again."""
    key: Key | None = None
    fresh, asked, told = Freshness(), -_ASKED_EVERY, ""
    for _ in eyes.looks():
        if monotonic() - asked >= _ASKED_EVERY:
            fresh, asked = freshness(eyes.state_dir), monotonic()
            if bool(fresh.stale) != bool(told):
                tell(fresh.stale or "what follows is of now again")
                told = fresh.stale
        seen = as_of_now(eyes.seen(), fresh)
        if name is None:
            yield of_kind(seen, kind)
            continue
        key = key or find(seen, kind, name)
        yield {key: seen[key]} if key in seen else {}

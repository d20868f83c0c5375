"""What is fuzzed: a place where bytes come in, what it may do with them, and how long that may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LONGEST: Final = 1500
CORPUS: Final = Path(__file__).parent / "corpus"
Try = Callable[[bytes], None]
"""Raises for what was not promised: AssertionError where an answer is wrong."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    attempt: Try
    words: tuple[bytes, ...] = ()
    """Of the format."""
    seconds: float = 2.0
    """After which an input hangs, on a busy machine."""
    share: float = 1.0
    """Of the inputs that are asked for: less for what takes long by its nature."""
    around: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)
    """What has to be there meanwhile, such as a server."""

    @property
    def corpus(self) -> dict[str, bytes]:
        folder = CORPUS / self.name
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir())} if folder.is_dir() else {}


def text_of(data: bytes) -> str:
    """As Python gives what comes from outside: bytes that are no UTF-8 become surrogates."""
    return data.decode("utf-8", "surrogateescape")


def refuses(does: Callable[[], object], *promised: type[Exception], echoed: str = "") -> bool:
    """Whether it raised what it promised; what it says is one line that a terminal can show. It may repeat `echoed`,
    which is what somebody just wrote.
    """
    try:
        does()
    except promised as error:
        assert_shown(str(error), LONGEST + 12 * len(echoed))
        return True
    return False


def assert_shown(line: str, longest: int = LONGEST) -> None:
    assert line, "nothing is said"
    assert line.isprintable(), f"not for a terminal: {line[:200]!a}"
    assert len(line) <= longest, f"far too long: {line[:80]!a}..."


def by_name(*targets: Target) -> Mapping[str, Target]:
    found = {target.name: target for target in targets}
    assert len(found) == len(targets)
    return found

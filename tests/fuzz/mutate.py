"""Inputs from a kept corpus: bytes changed, pieces cut, doubled and spliced, words of the format put in.

The same seed gives the same inputs, so that a failure is named by its number, and a count means something.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, TypeVar

MOST: Final = 64 * 1024
"""Bytes of an input."""
_NASTY: Final = (
    *(b"", b"\x00", b"\n", b"\r\n", b"\r", b"\t", b" ", b"\x1b[2J", b"\x7f", b"\xff", b"\xc3", b"\xed\xa0\x80"),
    *("\u2028".encode(), "\x85".encode(), "\ufeff".encode(), "\u202e".encode(), "\u0661".encode(), "\u00b2".encode()),
    *(b"-1", b"0", b"+1", b"1_0", b"1e9", b"0x10", b"9" * 19, b"9" * 400, b"9" * 5000, b"inf", b"nan", b"%s", b"{}"),
    *(b"../", b"/", b"\\", b"'", b'"', b":", b",", b"=", b"*" * 40, b"[" * 2000, b"{" * 40, b"a" * 5000),
)
T = TypeVar("T")


class Mutator:
    def __init__(self, seed: str, corpus: Sequence[bytes], words: Sequence[bytes]) -> None:
        self._random = random.Random(seed)
        self._corpus = list(corpus) or [b""]
        self._words = (*words, *_NASTY)
        self._count = 0

    def next(self) -> bytes:
        """First the corpus as it is, then what becomes of it."""
        number, self._count = self._count, self._count + 1
        if number < len(self._corpus):
            return self._corpus[number]
        data = bytearray(self._pick(self._corpus))
        for _ in range(self._few()):
            self._pick(_CHANGES)(self, data)
        return bytes(data[:MOST])

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[self._random.randrange(len(choices))]

    def _few(self) -> int:
        """Mostly one or two: what is changed everywhere is refused at its first byte."""
        return 1 << self._pick((0, 0, 0, 1, 1, 2, 3))

    def _place(self, data: bytearray) -> tuple[int, int]:
        """A piece, mostly a short one."""
        start = self._random.randrange(len(data) + 1)
        return start, min(len(data), start + self._pick((0, 1, 1, 2, 4, 8, 32, len(data))))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.randrange(256)

    def _cut(self, data: bytearray) -> None:
        start, end = self._place(data)
        del data[start:end]

    def _double(self, data: bytearray) -> None:
        start, end = self._place(data)
        data[end:end] = data[start:end] * self._pick((1, 1, 2, 16))

    def _move(self, data: bytearray) -> None:
        start, end = self._place(data)
        piece = data[start:end]
        del data[start:end]
        at = self._random.randrange(len(data) + 1)
        data[at:at] = piece

    def _word(self, data: bytearray) -> None:
        start, end = self._place(data)
        data[start : self._pick((start, end))] = self._pick(self._words)

    def _splice(self, data: bytearray) -> None:
        other = self._pick(self._corpus)
        start, end = self._place(bytearray(other))
        at = self._random.randrange(len(data) + 1)
        data[at : self._pick((at, len(data)))] = other[start : self._pick((end, len(other)))]

    def _word_of_its_own(self, data: bytearray) -> None:
        """One word of the text in the place of another."""
        words = bytes(data).split()
        if words:
            data[:] = bytes(data).replace(self._pick(words), self._pick((*words, *self._words)), 1)


_CHANGES: Final = (
    *(Mutator._flip, Mutator._set, Mutator._cut, Mutator._double, Mutator._move),
    *(Mutator._word, Mutator._word, Mutator._splice, Mutator._word_of_its_own),
)

"""Every place where bytes come in: all of the kept corpus, and a few inputs made of it. `make soak` tries many more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fuzz.mutate import Mutator
from tests.fuzz.run import TARGETS, replay, run

INPUTS = 600
SOAKED = 100_000


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_in_only_what_was_promised_happens(name: str) -> None:
    target = TARGETS[name]
    outcome = run(target, max(len(target.corpus), 10, int(INPUTS * target.share)), seed=0)
    assert not outcome.why, f"{outcome.failed!a}\n{outcome.why}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_in_of_very_much(name: str) -> None:
    target = TARGETS[name]
    outcome = run(target, int(SOAKED * target.share), seed=1)
    assert not outcome.why, f"{outcome.failed!a}\n{outcome.why}"


@pytest.mark.parametrize("name", TARGETS)
def test_there_is_a_corpus_with_good_inputs(name: str) -> None:
    assert any(not file.startswith("bad") for file in TARGETS[name].corpus)


def test_the_same_seed_gives_the_same_inputs() -> None:
    one, other, third = (Mutator(seed, [b"a b c", b"1/2"], [b"x"]) for seed in ("1", "1", "2"))
    first = [one.next() for _ in range(100)]
    assert first == [other.next() for _ in range(100)]
    assert first[2:] != [third.next() for _ in range(100)][2:]
    assert len(set(first)) > 50


def test_what_hangs_or_fails_is_told() -> None:
    target = replace(TARGETS["devno"], seconds=0.05)

    def hang(data: bytes) -> None:
        while data:
            pass

    def fail(data: bytes) -> None:
        raise IndexError(data)

    assert "hangs" in replay(replace(target, attempt=hang), b"x")
    assert "IndexError" in replay(replace(target, attempt=fail), b"x")
    assert not replay(target, b"x")

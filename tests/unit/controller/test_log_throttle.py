"""A lasting condition is logged at growing intervals, with its count."""

from __future__ import annotations

from reconciler.controller.drift import LogThrottle, times
from reconciler.model.names import Key

KEY, OTHER = Key("tank", "a"), Key("tank", "b")


def test_it_is_told_after_1_2_4_8_times() -> None:
    repeats = LogThrottle()
    assert [repeats.again(KEY, "EIO") for _ in range(9)] == [1, 2, 0, 4, 0, 0, 0, 8, 0]


def test_each_thing_of_each_record_has_a_count_of_its_own() -> None:
    repeats = LogThrottle()
    assert [repeats.again(KEY, what) for what in ("EIO", "EBUSY", "EIO")] == [1, 1, 2]
    assert repeats.again(OTHER, "EIO") == 1


def test_once_it_is_over_it_is_news_again_and_that_of_others_is_not() -> None:
    repeats = LogThrottle()
    for key in (KEY, OTHER):
        repeats.again(key, "EIO")
    repeats.over(KEY)
    assert repeats.again(KEY, "EIO") == 1
    assert repeats.again(OTHER, "EIO") == 2


def test_a_record_with_too_many_different_things_starts_over_and_what_is_counted_goes_on() -> None:
    repeats = LogThrottle()
    for number in range(32):
        assert repeats.again(KEY, number) == 1
    assert repeats.again(KEY, 31) == 2, "it is counted: no room is needed for it"
    assert repeats.again(KEY, 0) == 2
    assert repeats.again(KEY, 32) == 1
    assert repeats.again(KEY, 0) == 1, "32 more made room by forgetting the others"
    assert repeats.again(KEY, 32) == 2


def test_a_count_is_put_behind_what_was_told_before() -> None:
    assert [times(count) for count in (1, 2, 64)] == ["", " (2 times by now)", " (64 times by now)"]

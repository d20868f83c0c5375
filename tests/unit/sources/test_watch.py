"""The watch tells that manifests changed: soon, once, and also where nothing announces it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchdog.events import FileClosedNoWriteEvent, FileOpenedEvent, FileSystemEvent

from reconciler.sources.manifests.read import load
from reconciler.sources.manifests.watch import ManifestWatch, _Handler

LONG = 30.0
"""Seconds until a test gives up. None of them waits so long when all is well."""


class HandTimer:
    """A timer that goes off when the test says so."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.started = False
        self.cancelled = False

    def start(self) -> None:
        self.started = True

    def cancel(self) -> None:
        self.cancelled = True


class Hand:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[HandTimer] = []
        self.calls = 0

    def make(self, seconds: float, call: Callable[[], None]) -> HandTimer:
        self.timers.append(HandTimer(seconds, call))
        return self.timers[-1]

    def changed(self) -> None:
        self.calls += 1

    def fire(self) -> None:
        """Lets every timer go off that was not cancelled."""
        for timer in self.timers:
            if timer.started and not timer.cancelled:
                timer.call()


@pytest.fixture
def hand() -> Hand:
    return Hand()


def by_hand(directory: Path, hand: Hand) -> ManifestWatch:
    return ManifestWatch(directory, hand.changed, timer=hand.make, clock=lambda: hand.now)


@contextmanager
def running(watch: ManifestWatch) -> Iterator[ManifestWatch]:
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def write_and_rename(path: Path, text: str) -> None:
    path.with_suffix(".tmp").write_text(text)
    path.with_suffix(".tmp").rename(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new file": lambda folder: (folder / "new.yaml").touch(),
    "an edited file": lambda folder: (folder / "a.yaml").write_text("edited"),
    "a replaced file": lambda folder: write_and_rename(folder / "a.yaml", "replaced"),
    "a file that is gone": lambda folder: (folder / "a.yaml").unlink(),
    "a renamed file": lambda folder: (folder / "a.yaml").rename(folder / "b.yaml"),
    "a mode": lambda folder: (folder / "a.yaml").chmod(0o640),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    path.mkdir()
    (path / "a.yaml").write_text("first")
    return path


def test_constructing_starts_nothing(folder: Path, hand: Hand) -> None:
    before = threading.active_count()
    watch = by_hand(folder, hand)
    assert threading.active_count() == before
    assert not watch.armed
    assert not watch.poll()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_announced(folder: Path, change: Callable[[Path], object]) -> None:
    changed = threading.Event()
    with running(ManifestWatch(folder, changed.set)):
        change(folder)
        assert changed.wait(LONG)


def test_a_change_is_found_by_polling_where_nothing_is_announced(folder: Path) -> None:
    changed = threading.Event()
    with running(ManifestWatch(folder, changed.set, polling=True)):
        (folder / "a.yaml").write_text("edited")
        assert changed.wait(LONG)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_poll_notices_a_change_once(folder: Path, hand: Hand, change: Callable[[Path], object]) -> None:
    with running(by_hand(folder, hand)) as watch:
        watch._disarm()  # nothing announces it
        watch._arm = lambda: None  # type: ignore[method-assign]
        assert not watch.poll()
        change(folder)
        assert watch.poll()
        assert not watch.poll()
        hand.fire()
    assert hand.calls == 1


def test_poll_notices_the_swap_of_a_config_map(folder: Path, hand: Hand) -> None:
    (folder / "..1").mkdir()
    (folder / "..data").symlink_to("..1")
    with running(by_hand(folder, hand)) as watch:
        (folder / "..new").symlink_to("..1")
        (folder / "..new").rename(folder / "..data")
        assert watch.poll()


def test_reading_the_manifests_announces_nothing(folder: Path) -> None:
    calls: list[bool] = []
    edited = threading.Event()

    def changed() -> None:
        calls.append(edited.is_set())
        told.set()

    told = threading.Event()
    with running(ManifestWatch(folder, changed)):
        for _ in range(10):
            load(folder)
        edited.set()  # what reading had announced would have settled before, or come with this
        (folder / "a.yaml").write_text("edited")
        assert told.wait(LONG)
    assert all(calls)


@pytest.mark.parametrize("event", [FileOpenedEvent, FileClosedNoWriteEvent])
def test_opening_and_closing_are_no_changes(event: type[FileSystemEvent]) -> None:
    _Handler(lambda: pytest.fail("it was told")).on_any_event(event("a.yaml"))


def test_a_burst_of_changes_is_told_once_it_has_settled(folder: Path, hand: Hand) -> None:
    with running(by_hand(folder, hand)) as watch:
        for _ in range(5):
            hand.now += 0.05
            watch.touch()
        assert hand.calls == 0
        hand.fire()
        assert hand.calls == 1
    assert [timer.seconds for timer in hand.timers] == [0.1] * 5
    assert [timer.cancelled for timer in hand.timers] == [True] * 4 + [False]


def test_what_never_settles_is_told_all_the_same(folder: Path, hand: Hand) -> None:
    with running(by_hand(folder, hand)) as watch:
        for _ in range(100):
            hand.now += 0.05
            watch.touch()
        assert not hand.timers[-1].cancelled
        assert len(hand.timers) < 30


def test_a_timer_that_goes_off_while_it_is_cancelled_tells_nothing(folder: Path, hand: Hand) -> None:
    with running(by_hand(folder, hand)) as watch:
        watch.touch()
        watch.touch()
        hand.timers[0].call()
        assert hand.calls == 0


def test_nothing_is_told_after_the_stop(folder: Path, hand: Hand) -> None:
    watch = by_hand(folder, hand)
    watch.start()
    watch.touch()
    watch.stop()
    hand.timers[0].call()
    watch.touch()
    assert hand.calls == 0
    assert len(hand.timers) == 1


def test_stopping_leaves_no_thread(folder: Path) -> None:
    before = threading.active_count()
    with running(ManifestWatch(folder, lambda: None)):
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_stopping_twice_or_before_the_start_is_fine(folder: Path) -> None:
    watch = ManifestWatch(folder, lambda: None)
    watch.stop()
    watch.start()
    watch.stop()
    watch.stop()


@pytest.mark.parametrize("polling", [False, True])
def test_a_directory_that_comes_later_is_taken_up(tmp_path: Path, *, polling: bool) -> None:
    changed = threading.Event()
    folder = tmp_path / "later"
    with running(ManifestWatch(folder, changed.set, polling=polling)) as watch:
        assert not watch.armed
        folder.mkdir()
        assert watch.poll()
        assert watch.armed
        assert changed.wait(LONG)
        changed.clear()
        (folder / "a.yaml").touch()
        assert changed.wait(LONG)


def test_a_directory_that_vanishes_and_comes_back_is_watched_again(folder: Path) -> None:
    changed = threading.Event()
    with running(ManifestWatch(folder, changed.set)) as watch:
        (folder / "a.yaml").unlink()
        folder.rmdir()
        watch.poll()
        assert not watch.armed
        folder.mkdir()
        assert watch.poll()
        assert watch.armed
        assert changed.wait(LONG)
        changed.clear()
        (folder / "a.yaml").touch()
        assert changed.wait(LONG)


def test_a_host_without_inotify_left_is_looked_at_by_poll(
    folder: Path, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr("reconciler.sources.manifests.watch.Observer", none_left)
    with running(by_hand(folder, hand)) as watch:
        assert not watch.armed
        (folder / "a.yaml").write_text("edited")
        assert watch.poll()

"""Killed with SIGKILL around each call, the next process converges: nothing leaked, lost, half made or left suspended.

`tests/crash/` has the stories, and the process that is killed.
"""

from __future__ import annotations

import gc
import mmap
import secrets
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.kernel.locks import FOLDER
from tests.crash.checks import check
from tests.crash.instants import AFTER, MIDWAY, Instant, points_of
from tests.crash.scenarios import STORIES, Scenario, begin, furnish
from tests.crash.site import Site
from tests.crash.victim import GRACE, converge, instants_of, kill_at
from tests.crash.writer import Writer
from tests.testing.environment import eventually
from tests.testing.real_kernel import run

SAMPLE = (
    ("create", Instant(AFTER, "dm.create")),  # a private device without a table
    ("create", Instant(MIDWAY, "tools.mkfs")),  # mkfs lives on
    ("grow", Instant(AFTER, "dm.load")),  # a table waits
    ("delete with a discard", Instant(AFTER, "dm.resume")),  # a private device is live
    ("pool create", Instant(AFTER, "dm.create")),  # the pool has no table
)
"""Of all instants, which are for `make soak`."""


class Trials:
    """Each begins with the same files, in the same folder."""

    def __init__(self, site: Site, home: Path) -> None:
        self.site = site
        self._home = home
        self._acknowledged = mmap.mmap(-1, struct.calcsize("Q"))
        home.mkdir()
        furnish(site)
        site.copy_to(home)

    def instants(self, story: Scenario) -> list[Instant]:
        """Of a process that lives."""
        instants: list[Instant] = []
        self._tell(story, lambda: instants.extend(instants_of(self.site, story.wanted(self.site))))
        return instants

    def kill(self, story: Scenario, last: Instant, grace: float = GRACE) -> None:
        """The next process has that grace."""

        def work() -> None:
            kill_at(self.site, story.wanted(self.site), last)
            try:
                converge(self.site, story.wanted(self.site), grace)
            except BaseException as error:
                error.add_note(f"killed {last}")
                self.site.let_go()
                raise

        self._tell(story, work)

    def _tell(self, story: Scenario, work: Callable[[], None]) -> None:
        self.site.down()
        self.site.copy_from(self._home)
        begin(self.site, story)
        self._acknowledge(0)
        if story.busy:
            with Writer(self.site, "a", 0, self._acknowledge):
                eventually(self._last, "the program on the device has written")
                flushed = {"c": self._last()}
                work()
            flushed["a"] = self._last()
        else:
            flushed = {}
            work()
        check(self.site, story, flushed)

    def _acknowledge(self, number: int) -> None:
        self._acknowledged[:] = struct.pack("Q", number)

    def _last(self) -> int:
        return int(struct.unpack("Q", self._acknowledged[:])[0])


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    folder = Path(tempfile.mkdtemp(prefix="dmrtest-", dir="/run"))
    run("mount", "-t", "tmpfs", "-o", "size=1G", "dmrtest", str(folder))
    site = Site(folder / "site", f"dmrtest-{secrets.token_hex(3)}-")
    site.folder.mkdir()
    gc.freeze()  # what is not swept is not written to, and need not be copied for each process
    yield Trials(site, folder / "home")
    gc.unfreeze()
    site.down()
    (FOLDER / f"{site.pool}.lock").unlink()
    run("umount", str(folder))
    folder.rmdir()


@pytest.mark.parametrize(("name", "last"), SAMPLE, ids=str)
def test_killed_at_an_instant(trials: Trials, name: str, last: Instant) -> None:
    trials.kill(STORIES[name], last)


@pytest.mark.parametrize("call", ["dm.suspend", "dm.message create_snap 2 0"])
def test_an_origin_that_a_killed_process_left_suspended_is_resumed_without_a_grace(trials: Trials, call: str) -> None:
    """Whoever writes to it hangs."""
    trials.kill(STORIES["snapshot"], Instant(AFTER, call), grace=600)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_every_instant(trials: Trials, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    points = points_of(trials.instants(STORIES[name]))
    for point in points:
        trials.kill(STORIES[name], point)
    with capsys.disabled():
        print(f"\n{name}: killed at {len(points)} instants, converged after each")  # noqa: T201  # to be quoted
    assert len(points) > 3

"""What runs inside a kernel whose power is cut: `python -m tests.crash.power JOBS`, the first job on the first disk.

The cut is sysrq's `b`: the kernel ends at once, without a sync and without unmounting anything. The disk is a file of
the host: what the kernel has sent to it stays, what was only in its memory, be it the page cache, a journal or a
pool's metadata, is gone. Each cut leaves two files behind that show both. (A disk with a cache of its own would lose
more: what it was sent and not told to flush. There is none such here.)
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from reconciler.kernel.programs import run
from tests.crash.checks import check
from tests.crash.instants import Instant
from tests.crash.scenarios import STORIES, begin, furnish
from tests.crash.site import Site
from tests.crash.victim import converge, instants_of, reconcile_until
from tests.crash.writer import Writer

SITE: Final = Path("/mnt/site")
PREFIX: Final = "crash-"
FLUSHED, UNFLUSHED = "flushed", "unflushed"


def make(disk: str) -> None:
    """The daemon, for all that follows."""
    run(["mkfs.ext4", "-q", disk], disk)
    with _site(disk) as site:
        furnish(site)
    _say("made")


def tell_instants(disk: str, scenario: str) -> None:
    """Of a run to the end."""
    with _site(disk) as site:
        begin(site, STORIES[scenario])
        with _at_work(site, scenario):
            instants = instants_of(site, STORIES[scenario].wanted(site))
        check(site, STORIES[scenario], {})
    for instant in instants:
        _say("instant", instant.when, instant.call, instant.number)


def cut(disk: str, scenario: str, instant: Sequence[Any]) -> None:
    """Does not return."""
    with _site(disk) as site:
        begin(site, STORIES[scenario])
        _leave(FLUSHED, os.fsync)
        _flush(SITE)
        with _at_work(site, scenario):
            _say("begins")
            reconcile_until(site, STORIES[scenario].wanted(site), Instant(*instant), _cut_power)
    sys.exit("it came to its end, and the power was not cut")


def recover(disk: str, scenario: str, flushed: Mapping[str, int]) -> None:
    """After a cut: the reconciler starts as after any boot, with no device and no loop there."""
    with _site(disk) as site:
        assert (SITE / FLUSHED).read_bytes() == FLUSHED.encode(), "what was flushed is lost: this was no fair power cut"
        lost = SITE / UNFLUSHED  # its name may be there: a flush of another file commits the whole journal
        assert not lost.exists() or not lost.read_bytes(), "what was not flushed is there: this was no power cut"
        converge(site, STORIES[scenario].wanted(site))
        if STORIES[scenario].busy:
            with site.mounted("a"):  # its journal is replayed
                pass
        check(site, STORIES[scenario], flushed)
    _say("recovered")


def _cut_power() -> None:
    _leave(UNFLUSHED, lambda _: None)
    Path("/proc/sysrq-trigger").write_bytes(b"b")


def _leave(name: str, then: Callable[[int], None]) -> None:
    with (SITE / name).open("wb") as file:
        file.write(name.encode())
        file.flush()
        then(file.fileno())


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


@contextmanager
def _site(disk: str) -> Iterator[Site]:
    """Mounted always at the same place, as the store knows its files by their paths."""
    SITE.mkdir(exist_ok=True)
    run(["mount", disk, str(SITE)], disk)
    yield Site(SITE, PREFIX)
    run(["umount", str(SITE)], disk)


@contextmanager
def _at_work(site: Site, scenario: str) -> Iterator[None]:
    """The program on the device, where the scenario has one."""
    if not STORIES[scenario].busy:
        yield
        return
    with Writer(site, "a", 0, lambda number: _say("flushed", number)):
        yield


def _say(*words: Any) -> None:
    os.write(1, ("\t".join(map(str, words)) + "\n").encode())


JOBS: Final = {job.__name__: job for job in (make, tell_instants, cut, recover)}


def main(jobs: Sequence[tuple[str, Sequence[Any]]]) -> None:
    for number, (job, arguments) in enumerate(jobs):
        JOBS[job](f"/dev/ubd{chr(ord('a') + number)}", *arguments)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""What the reconciler is at when it dies: records before and after, and what must be so once they have come true."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache

from reconciler.kernel.programs import run
from reconciler.model.records import Record
from reconciler.model.stored import StoredDevice
from reconciler.model.units import Bytes, sectors
from tests.crash.site import Site
from tests.crash.victim import converge
from tests.crash.writer import BLOCK, FILE, blocks_of, numbers_in

EXT4 = {"type": "ext4"}
MIB = 1 << 20
_KEPT_BYTES = 128 * 1024


class Start(Enum):
    HOME = auto()
    """The pool, an ext4 on `a` with files, random bytes on all of `b`."""
    NOTHING = auto()
    """No file and no state."""
    FORGOTTEN = auto()
    """As HOME, but the reconciler's state is lost."""


@dataclass(frozen=True, slots=True)
class Found:
    """A host at rest, all live, and what is known of its devices."""

    site: Site
    known: dict[str, StoredDevice]
    flushed: Mapping[str, int]
    """By device, the last of the program's numbers that is known to have been on it: of a snapshot, before all began."""

    def is_live(self, name: str) -> bool:
        return self.site.dm.info(self.site.dm_name(name)) is not None


@dataclass(frozen=True, slots=True)
class Scenario:
    wanted: Callable[[Site], tuple[Record, ...]]
    check: Callable[[Found], None]
    start: Start = Start.HOME
    busy: bool = False
    """A program writes to `a` all the while."""


# Where the scenarios begin


def daemon(site: Site) -> tuple[Record, ...]:
    return site.pool_record(), _a(site), _b(site)


def furnish(site: Site) -> None:
    """Make the daemon and what is in it, flushed, all of it; then take it down."""
    converge(site, daemon(site))
    with site.mounted("a") as place:
        (place / FILE).write_bytes(blocks_of(0) + _kept())
        run(["sync", "--file-system", str(place)], "a")
    with open(f"/dev/mapper/{site.dm_name('b')}", "wb", buffering=0) as device:  # noqa: PTH123  # no path of a file
        device.write(_bytes_of_b())
        run(["sync", device.name], "b")
    site.down()


def begin(site: Site, scenario: Scenario) -> None:
    """From a furnished daemon that is down."""
    if scenario.start is Start.NOTHING:
        site.empty()
    elif scenario.start is Start.FORGOTTEN:
        site.forget()
    else:
        site.up()


@cache
def _kept() -> bytes:
    """The file's rest, which nobody writes to."""
    return random.Random("a").randbytes(_KEPT_BYTES // 2).hex().encode()


@cache
def _bytes_of_b() -> bytes:
    return random.Random("b").randbytes(4 * MIB)


def _a(site: Site, **spec: object) -> Record:
    return site.device_record("a", filesystem=EXT4, **spec)


def _b(site: Site, **spec: object) -> Record:
    return site.device_record("b", **{"size": "4MiB", **spec})


# What must be so


def _keeps(found: Found, name: str) -> None:
    """What is on `a`, also where another device was taken from it."""
    with found.site.looked_at(found.known[name]) as node:
        run(["e2fsck", "-fn", node], name)
        content = run(["debugfs", "-R", f"cat /{FILE}", node], node).output.encode()
    assert content[2 * BLOCK :] == _kept(), f"the file on {name} is lost"
    first, second = numbers_in(content)
    assert second in (first, first - 1), f"{name} is of no moment that ever was: {first} and {second}"
    flushed = found.flushed.get(name, 0)
    assert second >= flushed, f"{name} has lost what was flushed: it is at {second}, and was at {flushed}"


def _keeps_b(found: Found) -> None:
    with found.site.looked_at(found.known["b"]) as node, open(node, "rb") as device:  # noqa: PTH123
        assert device.read() == _bytes_of_b(), "what was on b is lost"


def _keeps_home(found: Found) -> None:
    _keeps(found, "a")
    _keeps_b(found)


def _filesystem_size(node: str) -> int:
    said = run(["dumpe2fs", "-h", node], node).output
    count, size = (
        next(int(line.split()[-1]) for line in said.splitlines() if line.startswith(f"Block {word}:"))
        for word in ("count", "size")
    )
    return count * size


def _has_c(found: Found) -> None:
    _keeps_home(found)
    assert found.known.keys() == {"a", "b", "c"}
    assert found.is_live("c")


def _created(found: Found) -> None:
    _has_c(found)
    with found.site.looked_at(found.known["c"]) as node:
        run(["e2fsck", "-fn", node], "c")
        assert _filesystem_size(node) == 16 * MIB


def _snapped(found: Found) -> None:
    _has_c(found)
    _keeps(found, "c")


def _committed(found: Found) -> None:
    _keeps_home(found)
    assert not found.is_live("a")
    assert found.known["a"].committed


def _grown(found: Found) -> None:
    _keeps_home(found)
    assert found.known["a"].size == sectors(Bytes(24 * MIB))
    assert _filesystem_size(f"/dev/mapper/{found.site.dm_name('a')}") == 24 * MIB


def _deleted(found: Found) -> None:
    _keeps(found, "a")
    assert found.known.keys() == {"a"}
    assert not found.is_live("b")


def _begun(found: Found) -> None:
    assert found.known.keys() == {"a", "c"}
    for name in ("a", "c"):
        with found.site.looked_at(found.known[name]) as node:
            run(["e2fsck", "-fn", node], name)
    assert found.is_live("a")
    assert not found.is_live("c")


def _extended(found: Found) -> None:
    _keeps_home(found)
    assert found.site.data.stat().st_size == 64 * MIB
    (target,) = found.site.dm.table(found.site.pool)
    assert target.length == sectors(Bytes(64 * MIB))


def _adopted(found: Found) -> None:
    _keeps_home(found)
    assert all(found.known[name].adopted and found.is_live(name) for name in ("a", "b"))


def _gone(found: Found) -> None:
    assert not found.site.devices(), found.site.devices()
    assert not found.site.data.exists()
    assert not found.site.metadata.exists()


def _adopting(site: Site) -> tuple[Record, ...]:
    """The first two thins of the pool, under the names that they had."""
    adopt = [{"deviceId": number, "dmName": site.dm_name(name)} for number, name in enumerate("ab")]
    return site.pool_record(adopt=True), _a(site, adopt=adopt[0], size="16MiB"), _b(site, adopt=adopt[1])


EXTEND = {"threshold": "15%", "step": "100%", "max": "128MiB"}
"""The daemon takes more than that of its 32 MiB, and less of 64."""

STORIES = {
    "create": Scenario(lambda s: (*daemon(s), s.device_record("c", filesystem=EXT4)), _created),
    "create without a filesystem": Scenario(lambda s: (*daemon(s), s.device_record("c")), _has_c),
    "snapshot": Scenario(lambda s: (*daemon(s), s.device_record("c", snapshotOf="a")), _snapped, busy=True),
    "commit": Scenario(lambda s: (s.pool_record(), _a(s, state="Committed"), _b(s)), _committed),
    "grow": Scenario(lambda s: (s.pool_record(), _a(s, size="24MiB"), _b(s)), _grown),
    "grow while mounted": Scenario(lambda s: (s.pool_record(), _a(s, size="24MiB"), _b(s)), _grown, busy=True),
    "delete": Scenario(lambda s: (s.pool_record(), _a(s), _b(s, state="Absent")), _deleted),
    "delete with a discard": Scenario(
        lambda s: (s.pool_record(), _a(s), _b(s, state="Absent", discardOnDelete=True)), _deleted
    ),
    "pool create": Scenario(
        lambda s: (s.pool_record(), _a(s), s.device_record("c", snapshotOf="a", state="Inactive")),
        _begun,
        start=Start.NOTHING,
    ),
    "pool extend": Scenario(lambda s: (s.pool_record(extend=EXTEND), _a(s), _b(s)), _extended),
    "adopt": Scenario(_adopting, _adopted, start=Start.FORGOTTEN),
    "pool delete": Scenario(
        lambda s: (s.pool_record(state="Absent"), _a(s, state="Absent"), _b(s, state="Absent")), _gone
    ),
}

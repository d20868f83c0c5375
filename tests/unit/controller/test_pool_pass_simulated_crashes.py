"""The daemon is killed, or the power fails, around every single call in turn; or that call fails, once.

Whatever was half done, the next daemon with the same store must reach what the records say: with no thin id leaked, no
device half made or left suspended, and no data lost.
"""

from __future__ import annotations

import copy
import errno
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Crashed
from reconciler.kernel.simulated.pool import CommitFault
from reconciler.model.dm_tables import PoolTable, ThinTable
from reconciler.model.errors import HostError
from reconciler.model.records import Record
from reconciler.model.units import Bytes, Sectors
from tests.simulation.calls import changes
from tests.simulation.host import PlayedHost, is_torn
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, device_record, pool_record

EXT4 = {"type": "ext4"}
HOME = (
    pool_record(),
    device_record("a", filesystem=EXT4),
    device_record("b", state="Inactive", filesystem=EXT4),
)
TOKENS = {2: "of-a", 3: "of-a-too"}


def _nothing(_: SimulatedDaemon) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Story:
    """What is asked of a daemon, and what must be true when it is done, whatever happened on the way."""

    wanted: tuple[Record, ...]
    check: Callable[[SimulatedDaemon], None]
    from_nothing: bool = False
    meanwhile: Callable[[SimulatedDaemon], None] = _nothing
    """What else happens on the host before the records are declared."""


def _keeps_a(daemon: SimulatedDaemon) -> None:
    content = daemon.content("a")
    assert {number: content.get(number) for number in TOKENS} == TOKENS, "what was written and flushed is lost"


def _keeps_both(daemon: SimulatedDaemon) -> None:
    _keeps_a(daemon)
    assert daemon.content("b")[0].startswith("ext4")


def _made(daemon: SimulatedDaemon) -> None:
    _keeps_both(daemon)
    assert daemon.content("c")[0] == "ext4 2048"
    assert daemon.info("tank-c") is not None
    assert len(daemon.ids()) == 3


def _snapped(daemon: SimulatedDaemon) -> None:
    _keeps_both(daemon)
    content = daemon.content("c")
    assert {number: content.get(number) for number in TOKENS} == TOKENS
    assert not is_torn(content), "the snapshot is of no moment that ever was"
    assert len(daemon.ids()) == 3


def _committed(daemon: SimulatedDaemon) -> None:
    _keeps_both(daemon)
    assert daemon.info("tank-a") is None
    assert daemon.known("a").committed


def _grown(daemon: SimulatedDaemon) -> None:
    _keeps_both(daemon)
    assert daemon.content("a")[0] == "ext4 8192"


def _deleted(daemon: SimulatedDaemon) -> None:
    assert daemon.info("tank-a") is None
    assert len(daemon.ids()) == 1
    assert daemon.content("b")[0].startswith("ext4")


def _pool_grown(daemon: SimulatedDaemon) -> None:
    _keeps_both(daemon)
    assert daemon.host.image(POOL).data_blocks == 512


def _extended(daemon: SimulatedDaemon) -> None:
    _keeps_both(daemon)
    status = daemon.host.pool(POOL)
    assert len(status.image.used_blocks()) * 100 < status.image.data_blocks, "it has grown beyond its threshold"


def _guest(daemon: SimulatedDaemon) -> None:
    """Makes a foreign thin with content, live under a name of its own."""
    dm = daemon.outside.dm
    dm.message(POOL, "create_thin 77")
    dm.create("guest", "")
    dm.load("guest", (ThinTable(Sectors(2048), daemon.host.devices.by_name[POOL].devno, 77).target(),))
    dm.resume("guest")
    daemon.host.io.write("guest", 1, "of-the-guest")
    daemon.host.io.flush("guest")


def _adopted(daemon: SimulatedDaemon) -> None:
    _keeps_both(daemon)
    assert daemon.content("guest") == {1: "of-the-guest"}
    assert daemon.info("guest") is not None
    assert len(daemon.ids()) == 3


def _pool_by_hand(daemon: SimulatedDaemon) -> None:
    kernel = daemon.outside
    devnos = []
    for name, size in (("meta", 4), ("data", 16)):
        kernel.disks.make_file(f"/srv/tank.{name}", Bytes(size << 20), allocate=True)
        devnos.append(kernel.disks.attach(f"/srv/tank.{name}").devno)
    table = PoolTable(Sectors(32768), devnos[0], devnos[1], Sectors(128), 25)
    kernel.dm.create(POOL, "")
    kernel.dm.load(POOL, (table.target(),))
    kernel.dm.resume(POOL)
    kernel.dm.message(POOL, "set_transaction_id 0 5")
    _guest(daemon)


def _taken_over(daemon: SimulatedDaemon) -> None:
    assert daemon.content("guest") == {1: "of-the-guest"}
    assert daemon.info("guest") is not None
    assert daemon.content("c")[0] == "ext4 2048"
    assert daemon.ids() == {77, daemon.known("c").thin_id}


def _begun(daemon: SimulatedDaemon) -> None:
    assert daemon.content("a")[0] == "ext4 2048"
    assert daemon.content("c") == daemon.content("a")
    assert len(daemon.ids()) == 2


def _all_gone(daemon: SimulatedDaemon) -> None:
    assert not daemon.host.devices.by_name
    assert not daemon.host.files
    assert not daemon.store.known_pools()


def _at_work(daemon: SimulatedDaemon) -> None:
    daemon.host.io.begin("tank-a")


STORIES = {
    "pool create": Story((*HOME[:2], device_record("c", snapshotOf="a", state="Inactive")), _begun, from_nothing=True),
    "create": Story((*HOME, device_record("c", filesystem=EXT4)), _made),
    "snapshot of an active origin": Story((*HOME, device_record("c", snapshotOf="a")), _snapped, meanwhile=_at_work),
    "commit": Story((HOME[0], device_record("a", filesystem=EXT4, state="Committed"), HOME[2]), _committed),
    "grow": Story((HOME[0], device_record("a", filesystem=EXT4, size="4MiB"), HOME[2]), _grown),
    "delete": Story((HOME[0], device_record("a", state="Absent", discardOnDelete=True), HOME[2]), _deleted),
    "pool grow": Story((pool_record(data={"file": "/srv/tank.data", "size": "32MiB"}), *HOME[1:]), _pool_grown),
    "pool extend": Story(
        (pool_record(extend={"threshold": "1%", "step": "50%", "max": "64MiB"}), *HOME[1:]), _extended
    ),
    "adopt": Story(
        (*HOME, device_record("guest", adopt={"deviceId": 77, "dmName": "guest"})), _adopted, meanwhile=_guest
    ),
    "adopt a pool": Story(
        (
            pool_record(adopt=True),
            device_record("guest", adopt={"deviceId": 77, "dmName": "guest"}),
            device_record("c", filesystem=EXT4),
        ),
        _taken_over,
        from_nothing=True,
        meanwhile=_pool_by_hand,
    ),
    "pool delete": Story(
        (pool_record(state="Absent"), device_record("a", state="Absent"), device_record("b", state="Absent")), _all_gone
    ),
}


class Stages:
    """Daemons that all start in the same state: one is built, and its host and state are copied for each attempt."""

    def __init__(self, root: Path, story: Story) -> None:
        self._root = root
        self._story = story
        self._number = 0
        first = SimulatedDaemon(root / "first")
        if not story.from_nothing:
            first.declare(*HOME)
            first.settle()
            for number, token in TOKENS.items():
                first.host.io.write("tank-a", number, token)
            first.host.io.flush("tank-a")
        self._clock = first.clock.time
        self._host: PlayedHost = first.host
        first.kill()

    def begin(self) -> SimulatedDaemon:
        self._number += 1
        state = self._root / str(self._number)
        shutil.copytree(self._root / "first", state)
        daemon = SimulatedDaemon(state, copy.deepcopy(self._host))
        daemon.clock.time = self._clock
        if not self._story.from_nothing:
            daemon.declare(*HOME)
            daemon.settle()
        self._story.meanwhile(daemon)
        return daemon


def counts(call: Call) -> bool:
    return call.part == "store" or changes(call)


Moment = tuple[int, str]
"""Which of the calls that change something, and whether before, in the middle of or after it."""


class At:
    """Does something at one moment, once, while the program on the host continues its writes."""

    def __init__(self, daemon: SimulatedDaemon, moment: Moment, then: Callable[[SimulatedDaemon, Call], None]) -> None:
        self._left, self._when = moment
        self._then = then
        self.done: Call | None = None
        self._daemon = daemon
        calls = daemon.calls
        calls.before = lambda call: self._pass("before", call)
        calls.midway = lambda call: self._pass("midway", call)
        calls.after = lambda call: self._pass("after", call)

    def _pass(self, when: str, call: Call) -> None:
        if when == "before":
            self._daemon.host.io.step()
        if when == "before" and counts(call):
            self._left -= 1
        if self._left >= 0 or self.done is not None or when != self._when or not counts(call):
            return
        self.done = call
        self._then(self._daemon, call)


def moments(stages: Stages, story: Story) -> Iterator[Moment]:
    """All moments of an undisturbed run."""
    daemon = stages.begin()
    seen: list[Moment] = []
    number = -1

    def before(call: Call) -> None:
        nonlocal number
        daemon.host.io.step()
        if counts(call):
            number += 1
            seen.extend([(number, "before"), (number, "after")])

    def midway(_: Call) -> None:
        seen.append((number, "midway"))

    daemon.calls.before, daemon.calls.midway = before, midway
    daemon.declare(*story.wanted)
    daemon.settle()
    _finish(daemon, story)
    yield from seen


def _finish(daemon: SimulatedDaemon, story: Story) -> None:
    daemon.calls.before = daemon.calls.midway = daemon.calls.after = lambda _: None
    if "tank-a" in daemon.host.io.writers:
        daemon.host.io.end("tank-a")
    daemon.settle()
    daemon.check()
    story.check(daemon)
    daemon.kill()


def _kill(daemon: SimulatedDaemon, _: Call) -> None:
    daemon.calls.crash()


def _go(daemon: SimulatedDaemon, story: Story) -> bool:
    """Runs the story, and returns whether the daemon was killed."""
    try:
        daemon.declare(*story.wanted)
        daemon.settle()
    except Crashed:
        return True
    return False


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
def test_a_crash_around_every_call(tmp_path: Path, name: str, power: bool) -> None:
    story = STORIES[name]
    stages = Stages(tmp_path, story)
    for moment in moments(stages, story):
        daemon = stages.begin()
        at = At(daemon, moment, _kill)
        assert _go(daemon, story), f"it was not killed at {moment}"
        try:
            daemon.power_cut() if power else daemon.restart()
            daemon.settle()
            _finish(daemon, story)
        except BaseException as error:
            error.add_note(f"after a crash {moment[1]} {at.done} (call {moment[0]})")
            raise


def test_an_origin_that_a_killed_daemon_left_suspended_is_resumed_at_once(tmp_path: Path) -> None:
    """It does not wait for the grace, because whoever writes to the device hangs."""
    story = STORIES["snapshot of an active origin"]
    stages = Stages(tmp_path, story)
    seen = 0
    for moment in moments(stages, story):
        daemon = stages.begin()
        At(daemon, moment, _kill)
        assert _go(daemon, story)
        info = daemon.info("tank-a")
        assert info is not None
        if info.suspended:
            seen += 1
            daemon.restart()
            daemon.work()
            info = daemon.info("tank-a")
            assert info is not None
            assert not info.suspended, f"after a crash {moment[1]} call {moment[0]}"
        daemon.kill()
    assert seen >= 2, "killed after the suspension, and after the message"


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize(
    "number",
    [
        errno.EIO,
        pytest.param(errno.EBUSY, marks=pytest.mark.soak),
        pytest.param(errno.ENOSPC, marks=pytest.mark.soak),
        pytest.param(errno.EINVAL, marks=pytest.mark.soak),
    ],
    ids=errno.errorcode.get,
)
def test_every_call_fails_once(tmp_path: Path, name: str, number: int) -> None:
    """The call fails before it has any effect, or after all of it."""
    story = STORIES[name]
    stages = Stages(tmp_path, story)

    def fail(_: SimulatedDaemon, call: Call) -> None:
        if call.part == "store":
            return
        raise HostError(call.name, str(call.args[0]), number, "for this once")

    for moment in moments(stages, story):
        daemon = stages.begin()
        at = At(daemon, moment, fail)
        try:
            assert not _go(daemon, story)
            _finish(daemon, story)
        except BaseException as error:
            error.add_note(f"after a failure {moment[1]} {at.done} (call {moment[0]})")
            raise


@pytest.mark.parametrize("name", STORIES)
def test_crashes_one_after_the_other(tmp_path: Path, name: str) -> None:
    """Crashes also come while the result of an earlier crash is repaired."""
    story = STORIES[name]
    stages = Stages(tmp_path, story)
    count = len(list(moments(stages, story)))
    for seed in range(20):
        rng, daemon = random.Random(seed), stages.begin()
        told = []
        try:
            for _ in range(4):
                moment = rng.randrange(count), rng.choice(["before", "after"])
                At(daemon, moment, _kill)
                if not _go(daemon, story):
                    break
                power = rng.random() < 0.3
                told.append(f"{moment[1]} {daemon.calls.made[-1]}{', power cut' if power else ''}")
                daemon.power_cut() if power else daemon.restart()
            else:
                daemon.settle()
            _finish(daemon, story)
        except BaseException as error:
            error.add_note(f"seed {seed}: crashes {'; '.join(told)}")
            raise


def _repair(daemon: SimulatedDaemon) -> None:
    """Does what the message about an unhealthy pool tells the operator to do, after a reboot."""
    daemon.kill()
    daemon.host.power_cut()
    for file in daemon.host.files.values():
        if file.image is not None:
            file.image.needs_check = False
    daemon.start()


@pytest.mark.parametrize("name", [name for name in STORIES if name != "pool create"])
@pytest.mark.parametrize("how", [CommitFault.READ_ONLY, CommitFault.FAIL])
def test_the_commit_of_each_message_fails_though_the_kernel_says_ok(
    tmp_path: Path, name: str, how: CommitFault
) -> None:
    """Nothing is done to the pool until somebody has repaired it; then everything goes on, and nothing was lost."""
    story = STORIES[name]
    stages = Stages(tmp_path, story)

    def fail(daemon: SimulatedDaemon, call: Call) -> None:
        if call.name == "message" and POOL in daemon.host.devices.by_name:
            daemon.host.fail_commits(POOL, how)

    for moment in moments(stages, story):
        daemon = stages.begin()
        at = At(daemon, moment, fail)
        daemon.declare(*story.wanted)
        daemon.run(60)
        try:
            if at.done is None or at.done.name != "message":
                continue
            _repair(daemon)
            _finish(daemon, story)
        except BaseException as error:
            error.add_note(f"after a commit that failed {moment[1]} {at.done} (call {moment[0]})")
            raise

"""What happens to what a pool lies on: its metadata device dies, stutters, is slow or frozen; it fills; a loop goes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from chaos.environment import TAKING_BACK, Environment
from chaos.faults import Act, Fault
from chaos.host import Failed, attempt, dmsetup, node, run, swap
from chaos.place import FILLED, METADATA, METADATA_MIB, OWN, linear
from chaos.repair import ask_for_repair, repair_unhealthy

BACK: Final = "the metadata's device is as it was"
SECTORS: Final = METADATA_MIB << 11


def _below(line: Callable[[str], str], shortest: float, longest: float) -> Act:
    """That table in the place of the linear one, for a while."""

    def act(environment: Environment, rng: Random) -> str:
        seconds = rng.uniform(shortest, longest)
        if environment.is_pending(BACK):
            raise Failed("the metadata's device has a fault already")
        environment.later(seconds, BACK, lambda: swap(METADATA, linear(environment.metadata_loop)))
        swap(METADATA, line(environment.metadata_loop))
        return f"for {seconds:.1f} s"

    return act


def freeze(environment: Environment, rng: Random) -> str:
    seconds = rng.uniform(2, 9)
    if environment.is_pending(BACK):
        raise Failed("the metadata's device has a fault already")
    environment.later(seconds, BACK, lambda: _thaw(environment))
    dmsetup("suspend", "--noflush", METADATA)
    return f"for {seconds:.1f} s"


def _thaw(environment: Environment) -> None:
    del environment
    dmsetup("resume", METADATA)


def operator(environment: Environment, rng: Random) -> str:
    """Somebody puts right what the adversary did so far, and does what the status messages of unhealthy pools say."""
    del rng
    if not ask_for_repair(environment):
        raise Failed("no pool asks for a repair")
    environment.undo_all(TAKING_BACK)
    return ", ".join(repair_unhealthy(environment))


def fill(environment: Environment, rng: Random) -> str:
    """More than the pool has room for, until it grows."""
    del environment
    start, count = rng.randrange(0, 48), rng.randrange(24, 48)
    words = ("dd", "if=/dev/zero", f"of={node(FILLED.dm)}", "bs=1M", f"seek={start}", f"count={count}")
    run(*words, "oflag=direct", "conv=nocreat")
    return f"{count} MiB"


def discard(environment: Environment, rng: Random) -> str:
    del environment, rng
    run("blkdiscard", "--force", node(FILLED.dm))
    return str(FILLED)


def detach(environment: Environment, rng: Random) -> str:
    """The loop of a pool. One in use is detached at its last close."""
    pool, kind = rng.choice(OWN), rng.choice(("data", "meta"))
    file = environment.records.folder.parent / f"{pool}.{kind}"
    loops = attempt("losetup", "--associated", file, "--noheadings", "--output", "NAME").text.split()
    if not loops:
        raise Failed(f"{file.name} is on no loop")
    run("losetup", "--detach", loops[0])
    return file.name


FAULTS: Final = (
    Fault("dm-error under the metadata", 2, _below(lambda _: f"0 {SECTORS} error", 0.5, 4)),
    Fault("dm-flakey under the metadata", 2, _below(lambda loop: f"0 {SECTORS} flakey {loop} 0 1 1", 2, 6)),
    Fault("dm-delay under the metadata", 1, _below(lambda loop: f"0 {SECTORS} delay {loop} 0 150", 2, 8)),
    Fault("metadata frozen", 2, freeze),
    Fault("the printed repair", 3, operator),
    Fault("a pool filled", 1, fill),
    Fault("a device discarded", 1, discard),
    Fault("losetup --detach", 2, detach),
)

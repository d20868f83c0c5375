"""The end: what was promised to be on the disks is there, and every disk and every pool is sound when taken down."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Final

from chaos.convergence import not_converged
from chaos.environment import Environment
from chaos.host import Failed, NotSo, attach, attempt, node, run, until
from chaos.place import BETA, FOLDER, METADATA, OWN
from chaos.records import Name, state_of
from chaos.runtime import POOL as THEIRS

DOWN: Final = 240.0
"""Seconds for everything to be taken down."""
FILESYSTEM_CHECKS: Final = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}


def check_disks(environment: Environment) -> None:
    """Raises NotSo with what is lost."""
    promised = environment.writers.promised()
    wrong = [f"{name}: {lost}" for name in environment.writers.all() for lost in _lost(environment, name)]
    wrong += list(_filesystems(environment))
    if wrong:
        raise NotSo("on the disks:\n" + "\n".join(wrong))
    environment.scenario.title(
        f"all {promised} files and blocks that were flushed are there; the filesystems are clean"
    )


def _lost(environment: Environment, name: Name) -> list[str]:
    try:
        return environment.writers.check(name)
    except Failed as failed:
        return [str(failed)]


def _filesystems(environment: Environment) -> Iterator[str]:
    for name in environment.records.devices("", "Active"):
        filesystem = environment.records.specs[name].get("filesystem")
        if filesystem:
            words = (*FILESYSTEM_CHECKS[filesystem["type"]], node(name.dm))
            said = attempt(*words, within=60)
            if said.code:
                yield f"{' '.join(map(str, words))} ended with {said.code}: {said.text}"


def take_down(environment: Environment) -> None:
    """All is Inactive; then the daemon is stopped and each pool's metadata looked at. Raises NotSo."""
    known = _thin_ids(environment)
    for spec in environment.records.specs.values():
        if state_of(spec) == "Active" and "external" not in spec:
            spec["state"] = "Inactive"
    environment.records.write()
    until(lambda: not not_converged(environment), "everything is taken down", DOWN)
    code = environment.daemon.end(signal.SIGTERM)
    if code:
        raise NotSo(f"the daemon ended with {code} on SIGTERM")
    environment.runtime.take_down()
    wrong = [line for pool in (*OWN, THEIRS) for line in _metadata(environment, pool, known)]
    if wrong:
        raise NotSo("in the metadata:\n" + "\n".join(wrong))
    environment.scenario.title(
        "all is taken down; thin_check finds nothing, and no thin id is anybody's but who made it"
    )


def _thin_ids(environment: Environment) -> dict[str, set[int]]:
    """By pool, what the daemon, strangers and the container runtime each know of."""
    known: dict[str, set[int]] = {pool: set(environment.stranger_ids.get(pool, set())) for pool in OWN}
    known[THEIRS] = set(environment.runtime.ids)
    for name, item in environment.daemon.items("devices").items():
        number = item["status"]["deviceId"]
        if number is not None:
            known[name.partition("/")[0]].add(number)
    return known


def _metadata(environment: Environment, pool: str, known: dict[str, set[int]]) -> Iterator[str]:
    disk, loops = _disk(environment, pool)
    said = attempt("thin_check", "--ignore-non-fatal-errors", disk)  # a block may have leaked, which harms nothing
    if said.code:
        yield f"thin_check of {pool} ended with {said.code}: {said.text}"
    listed = run("thin_ls", "--no-headers", "--format", "DEV", disk)
    there = {int(word) for word in listed.split()}
    yield from (f"thin id {number} leaked in {pool}" for number in sorted(there - known[pool]))
    yield from (f"thin id {number} is gone from {pool}" for number in sorted(known[pool] - there))
    for loop in loops:
        run("losetup", "--detach", loop)


def _disk(environment: Environment, pool: str) -> tuple[str, list[str]]:
    """What the metadata lies on now, and the loops that had to be made for that."""
    if pool == BETA:
        return str(node(METADATA)), []
    if pool == THEIRS:
        return environment.runtime.metadata, []
    loop = attach(FOLDER / f"{pool}.meta")
    return loop, [loop]

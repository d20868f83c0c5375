"""What must be true after the convergence. The kernel is asked, beside the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from chaos.environment import Environment
from chaos.foreign import portrait
from chaos.host import NotSo, Seen, look, node, run, still_left_behind, until
from chaos.place import METADATA, OWN
from chaos.records import Name
from chaos.runtime import POOL as THEIRS

GROWTH_KIB: Final = 16 << 10
"""That the daemon and its workers may take more than when they were warm."""
HUNG: Final = 60.0
"""Seconds for commands that hung to notice that nothing holds them any more."""


def check(environment: Environment) -> None:
    """Raises NotSo with everything that is wrong."""
    until(lambda: not still_left_behind(), "every command that hung has ended", HUNG)
    wrong: list[str] = []
    for look_at in (_devices, _others, _same_ids, _plan, _daemon):
        wrong += look_at(environment)
    if wrong:
        raise NotSo("after the convergence:\n" + "\n".join(wrong))
    environment.scenario.title(
        f"what is live is what is declared; {len(environment.untouched)} looks at foreign devices are the same"
    )


def _devices(environment: Environment) -> Iterator[str]:
    """Desired equals live."""
    live, statuses = look(), environment.daemon.items("devices")
    expected = {METADATA, *environment.foreign.names, *OWN, THEIRS}
    for name in environment.records.devices("", "Active"):
        expected.add(name.dm)
        if name.dm in live:
            yield from _active(name, statuses[str(name)]["status"], live)
    yield from (f"{name} is live, and should not be" for name in sorted(live.keys() - expected))
    yield from (f"{name} is not live" for name in sorted(expected - live.keys()))
    yield from (f"the pool {pool} is {live.get(pool)}" for pool in (*OWN, THEIRS) if not _is_at_work(live.get(pool)))


def _is_at_work(device: Seen | None) -> bool:
    return device is not None and device.tables == "Live" and not device.suspended


def _active(name: Name, status: dict[str, Any], live: dict[str, Seen]) -> Iterator[str]:
    device = live[name.dm]
    wanted = f"0 {status['sizeBytes'] // 512} thin {live[name.pool].devno} {status['deviceId']}"
    if device.table != wanted or not _is_at_work(device):
        yield f"{name} is {device}, and should have the table {wanted!r}"
    if name.pool in OWN and not device.uuid.startswith("DMR-"):
        yield f"{name} has the uuid {device.uuid!r}"
    if not node(name.dm).exists():
        yield f"{node(name.dm)} is not there"


def _others(environment: Environment) -> Iterator[str]:
    """What is not the reconciler's is as it was."""
    now = portrait(environment.foreign)
    for what, before in environment.untouched.items():
        if now[what] != before:
            yield f"the foreign {what} was {before!r} and is {now[what]!r}"
    if environment.runtime.portrait() != environment.runtime.line:
        yield f"{THEIRS} had the table {environment.runtime.line!r} and has {environment.runtime.portrait()!r}"
    transaction = run("dmsetup", "status", "--noflush", THEIRS).split()[3]
    if transaction != "40":
        yield f"{THEIRS} was at transaction 40 and is at {transaction}"
    yield from environment.runtime.lost()


def _same_ids(environment: Environment) -> Iterator[str]:
    """No device was ever made anew whose deletion nobody asked for."""
    for name, numbers in environment.thin_ids.items():
        if len(numbers) > 1 and name not in environment.records.asked:
            yield f"{name} had the thin ids {sorted(numbers)}, one after the other"


def _plan(environment: Environment) -> Iterator[str]:
    said = environment.daemon.command("plan", "--manifests", str(environment.daemon.manifests))
    if said.code or not said.text.startswith("nothing to do"):
        yield f"`dm-reconciler plan` ended with {said.code}: {said.text}"


def _daemon(environment: Environment) -> Iterator[str]:
    environment.daemon.watch()
    if environment.daemon.grown_most().growth > GROWTH_KIB:
        yield f"it takes more and more memory: {environment.daemon.grown_most()}"
    if "Traceback" in environment.daemon.told():
        yield "there is a traceback in the daemon's log"

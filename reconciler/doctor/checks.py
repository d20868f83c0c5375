"""What `doctor` finds wrong with one pool, including leaked thin ids. What can be done about it is in `repairs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.model.dm_tables import ThinTable, read_table
from reconciler.model.live import LiveDevice, ThinEntry, ThinIds
from reconciler.model.names import Key
from reconciler.model.records import ThinDevice
from reconciler.model.steps import HostStep, Step
from reconciler.model.stored import ForgottenThin, SalvagedPool, StoredDevice
from reconciler.model.units import format_size
from reconciler.planner.facts import PoolFacts
from reconciler.planner.ownership import Cause, cause_of
from reconciler.planner.pool import plan_pool


class Severity(StrEnum):
    """How bad a finding is: shown in brackets, as words, so that it needs no colour."""

    OK = "ok"
    WRONG = "!!"
    UNKNOWN = "??"
    LEFT = "--"
    """Not as it could be, but nothing has to be done about it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    subject: str
    mark: Severity
    message: str
    todo: str = ""
    """What to do about it, with the exact command; empty if there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Something that `--fix` can do, once somebody has agreed."""

    key: Key
    what: str
    """The name of the repair in the question; it also identifies the repair."""
    why: str
    effect: tuple[str, ...]
    """What is so afterwards and what is lost, each as one line."""
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """One pool, as it was scanned."""

    facts: PoolFacts
    ids: ThinIds | None = None
    """The thin ids from the pool itself. None if they could not be read, or the daemon is at work on the pool."""
    ids_trouble: str | None = None
    devices: Mapping[str, LiveDevice] = field(default_factory=dict)
    """The devices by dm name: those of the pool, and whatever else is on it."""
    known: Mapping[str, StoredDevice] = field(default_factory=dict)
    records: tuple[ThinDevice, ...] = ()
    former: Mapping[int, ForgottenThin] = field(default_factory=dict)
    block: int = 0
    """The size of a data block in bytes."""
    remembered: SalvagedPool | None = None
    """What a store that was quarantined as damaged says of the pool."""
    told_leaked: tuple[int, ...] = ()
    """The ids that the daemon last reported as leaked, for use while the daemon is at work on the pool."""

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def is_left_alone(self) -> bool:
        """Whether the pool's record is paused, or the pool is external."""
        record, known = self.facts.record, self.facts.known
        if record is not None:
            return record.spec.paused or record.spec.external
        return known is not None and known.external

    def shown_by(self, thin_id: int) -> tuple[str, ...]:
        """The names of the live devices that show this thin."""
        pool = self.facts.live.device
        if pool is None:
            return ()
        thins = ((name, read_table(device.table)) for name, device in self.devices.items())
        found = (
            name
            for name, table in thins
            if isinstance(table, ThinTable) and (table.pool, table.thin_id) == (pool.info.devno, thin_id)
        )
        return tuple(sorted(found))


def to_fix(fix: str) -> str:
    """The advice for everything that `--fix` can repair: always the same, so that it is shown once."""
    return f"`{fix}` shows each repair with its exact effect, and does it if you agree"


def how_to_stop(pid: int) -> str:
    """The commands that stop the daemon; `pid` is 0 if it is unknown."""
    unit = "`systemctl stop dm-reconciler`"
    return f"{unit}, or `kill {pid}`" if pid else unit


def check_pool(view: PoolView, *, fix: str, daemon_runs: bool, can_mend: bool) -> Check:
    """The condition of the pool as `plan` sees it. `fix` is the command line that repairs."""
    plan = plan_pool(view.facts)
    subject, message = f"pool {view.name}", plan.condition.message
    if view.facts.stuck:
        return Check(subject, Severity.UNKNOWN, f"cannot be looked at: {view.facts.stuck}", "")
    if plan.needs_ids:
        return Check(
            subject, Severity.UNKNOWN, f"its thin ids cannot be read: {view.ids_trouble or 'it does not tell'}"
        )
    changes = any(isinstance(step, HostStep) for step in plan.steps)
    if plan.condition.good and not changes:
        return Check(subject, Severity.OK, message)
    if changes and daemon_runs:
        return Check(subject, Severity.LEFT, f"{plan.reason}: {message}; the daemon is running, and sees to it")
    text = f"{plan.reason}: {_in_short(view, message)}"
    if can_mend:
        return Check(subject, Severity.WRONG, f"{plan.reason}: {message}", to_fix(fix))
    if changes:
        todo = "start the daemon (`systemctl start dm-reconciler`), or run `dm-reconciler apply --manifests DIR` once"
        return Check(subject, Severity.WRONG, text, todo)
    return Check(subject, Severity.WRONG, text, f"pool {view.name}: {message}")


def _in_short(view: PoolView, message: str) -> str:
    """The message without the long instructions for a damaged pool, which are shown once under what is to be done."""
    cause, status = cause_of(view.facts), view.facts.live.status
    if cause is None or status is None:
        return message
    why = ": its metadata is full" if cause is Cause.METADATA_FULL else ""
    return f"pool {view.name} is {status.mode}{why}"


def check_loops_of(view: PoolView) -> list[Check]:
    """Reports a file of the pool that is on two loops."""
    checks = []
    for word, backing in (("data", view.facts.live.data), ("metadata", view.facts.live.metadata)):
        if len(backing.loops) > 1:
            loops = ", ".join(loop.path for loop in backing.loops)
            todo = f"stop what uses pool {view.name}, then `losetup --detach` all of {loops} but the one in its table"
            checks.append(
                Check(
                    f"loops of {view.name}",
                    Severity.WRONG,
                    f"its {word} is on {loops} at once, which corrupts it",
                    todo,
                )
            )
    return checks


def check_intents(view: PoolView, *, daemon_runs: bool) -> list[Check]:
    """Reports an open intent, which the daemon will complete or abort."""
    found = []
    for intent in view.facts.intents:
        text = f"the {intent.kind} of {intent.key} (thin id {intent.thin_id}) is not finished"
        who = "the daemon is at it" if daemon_runs else "the daemon's next start finishes or undoes it"
        found.append(Check(f"operation in {view.name}", Severity.LEFT, f"{text}: {who}"))
    return found


_SHOWN = 12
"""How many ids a line names; `thin_ls` lists them all."""


def leaked(view: PoolView) -> dict[int, ThinEntry]:
    """The thin ids in the pool that no device, intent or adoption names."""
    named = {device.thin_id for device in view.known.values()} | {intent.thin_id for intent in view.facts.intents}
    named |= {record.spec.adopt.device_id for record in view.records if record.spec.adopt is not None}
    return {number: entry for number, entry in sorted((view.ids or {}).items()) if number not in named}


def is_ours(view: PoolView, thin_id: int, entry: ThinEntry) -> bool:
    """Whether this store made the thin, rather than another one under the same id."""
    former = view.former.get(thin_id)
    return former is not None and former.created_at == entry.created_at


def listed(ids: Mapping[int, ThinEntry], block: int) -> str:
    """The ids as `3 (64MiB), 5 (0)`, and how many more."""
    return _few(f"{number} ({format_size(entry.mapped_blocks * block)})" for number, entry in sorted(ids.items()))


def _few(words: Iterable[object]) -> str:
    shown = [str(word) for word in words]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def check_leaks(view: PoolView, *, fix: str, stop: str) -> Check | None:
    """Reports leaked ids. `stop` are the commands that stop the daemon, for `--fix`; empty if it does not run."""
    if view.ids is None:
        return _check_told(view, fix=fix, stop=stop) if view.told_leaked else None
    subject, found = f"thin ids of {view.name}", leaked(view)
    if not found:
        return Check(subject, Severity.OK, f"all {len(view.ids)} are accounted for" if view.ids else "there are none")
    ours = [number for number, entry in found.items() if is_ours(view, number, entry)]
    size = format_size(sum(entry.mapped_blocks for entry in found.values()) * view.block)
    text = f"{len(found)} leaked, {size}: {listed(found, view.block)}; "
    if not ours:
        return _strangers(view, text, found)
    text += f"made by this store: {_few(ours)}"
    if len(ours) < len(found):
        text += f"; the other {len(found) - len(ours)} are left to whoever made them"
    if view.is_left_alone:
        return Check(subject, Severity.LEFT, text)
    return Check(subject, Severity.WRONG, text, to_fix(fix))


def _check_told(view: PoolView, *, fix: str, stop: str) -> Check:
    """Reports leaked ids by the daemon's status, which has ids only: an id of this store may be another thin by now."""
    subject, told = f"thin ids of {view.name}", view.told_leaked
    text = f"the daemon reports {len(told)} leaked: {_few(told)}; "
    perhaps = [number for number in told if number in view.former]
    if not perhaps:
        return _strangers(view, text, told)
    text += f"made by this store, as it seems: {_few(perhaps)}"
    if view.is_left_alone:
        return Check(subject, Severity.LEFT, text)
    todo = f"stop the daemon ({stop}); then {to_fix(fix)}; then start it again (`systemctl start dm-reconciler`)"
    return Check(subject, Severity.WRONG, text, todo)


def _strangers(view: PoolView, text: str, ids: Iterable[int]) -> Check:
    """Reports ids that are not this store's, which `--fix` never deletes. If the pool is unknown, its own line says
    what to do first.
    """
    subject = f"thin ids of {view.name}"
    text += "none of them was made by this store"
    if view.is_left_alone or view.facts.known is None:
        return Check(subject, Severity.LEFT, f"{text}: left to whoever made them")
    numbers = list(ids)
    todo = (
        f"pool {view.name}: take in what is yours of thin ids {_few(numbers)}, each by a record with "
        f"`adopt: {{deviceId: {numbers[0]}, dmName: NAME}}`; the others are for whoever made them to delete"
    )
    return Check(subject, Severity.WRONG, f"{text}: `--fix` deletes none of them", todo)

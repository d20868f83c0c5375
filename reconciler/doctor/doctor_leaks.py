"""What `doctor` says of thin ids that nobody here names: whose they are decides what is to be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.doctor.checks import Check, Mark, PoolView, to_fix
from reconciler.model.live import ThinEntry
from reconciler.model.units import format_size

_SHOWN = 12
"""Ids in one line: who needs more of them asks `thin_ls`."""


def leaked(view: PoolView) -> dict[int, ThinEntry]:
    """Thin ids in the pool that no device, operation or adoption names."""
    named = {device.thin_id for device in view.known.values()} | {intent.thin_id for intent in view.case.intents}
    named |= {record.spec.adopt.device_id for record in view.records if record.spec.adopt is not None}
    return {number: entry for number, entry in sorted((view.ids or {}).items()) if number not in named}


def is_ours(view: PoolView, thin_id: int, entry: ThinEntry) -> bool:
    """Whether it is a thin that this store made, and not another one under the same id."""
    former = view.former.get(thin_id)
    return former is not None and former.created_at == entry.created_at


def listed(ids: Mapping[int, ThinEntry], block: int) -> str:
    """`3 (64MiB), 5 (0)`, and how many more."""
    return _few(f"{number} ({format_size(entry.mapped_blocks * block)})" for number, entry in sorted(ids.items()))


def _few(words: Iterable[object]) -> str:
    shown = [str(word) for word in words]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def check_leaks(view: PoolView, *, fix: str, stop: str) -> Check | None:
    """`stop` are the commands that stop the daemon, which `--fix` wants; empty while none runs."""
    if view.ids is None:
        return _check_told(view, fix=fix, stop=stop) if view.told_leaked else None
    subject, found = f"thin ids of {view.name}", leaked(view)
    if not found:
        return Check(subject, Mark.OK, f"all {len(view.ids)} are accounted for" if view.ids else "there are none")
    ours = [number for number, entry in found.items() if is_ours(view, number, entry)]
    size = format_size(sum(entry.mapped_blocks for entry in found.values()) * view.block)
    text = f"{len(found)} leaked, {size}: {listed(found, view.block)}; "
    if not ours:
        return _strangers(view, text, found)
    text += f"made by this store: {_few(ours)}"
    if len(ours) < len(found):
        text += f"; the other {len(found) - len(ours)} are left to whoever made them"
    if view.is_left_alone:
        return Check(subject, Mark.LEFT, text)
    return Check(subject, Mark.WRONG, text, to_fix(fix))


def _check_told(view: PoolView, *, fix: str, stop: str) -> Check:
    """By the daemon's word, which has ids only: one that the store once made may be another thin by now."""
    subject, told = f"thin ids of {view.name}", view.told_leaked
    text = f"the daemon reports {len(told)} leaked: {_few(told)}; "
    perhaps = [number for number in told if number in view.former]
    if not perhaps:
        return _strangers(view, text, told)
    text += f"made by this store, as it seems: {_few(perhaps)}"
    if view.is_left_alone:
        return Check(subject, Mark.LEFT, text)
    todo = f"stop the daemon ({stop}); then {to_fix(fix)}; then start it again (`systemctl start dm-reconciler`)"
    return Check(subject, Mark.WRONG, text, todo)


def _strangers(view: PoolView, text: str, ids: Iterable[int]) -> Check:
    """None is deleted by `--fix`. Of a pool that is not known yet, its own line says what to do first."""
    subject = f"thin ids of {view.name}"
    text += "none of them was made by this store"
    if view.is_left_alone or view.case.known is None:
        return Check(subject, Mark.LEFT, f"{text}: left to whoever made them")
    numbers = list(ids)
    todo = (
        f"pool {view.name}: take in what is yours of thin ids {_few(numbers)}, each by a record with "
        f"`adopt: {{deviceId: {numbers[0]}, dmName: NAME}}`; the others are for whoever made them to delete"
    )
    return Check(subject, Mark.WRONG, f"{text}: `--fix` deletes none of them", todo)

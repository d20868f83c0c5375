"""Why a live pool cannot be written to, as far as it tells: each cause with words of its own, and its own way out."""

from __future__ import annotations

from enum import StrEnum

from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus, PoolTable, read_table
from reconciler.planner.facts import PoolCase


class Cause(StrEnum):
    """What keeps a pool from being written to."""

    FAILED = "failed"
    """The kernel could neither write the metadata nor go back to what was written: it trusts none of it."""
    NOT_UNDERSTOOD = "not understood"
    NEEDS_CHECK = "needs check"
    """A commit of the metadata failed, now or before the pool came up, and the kernel went back to the one before."""
    READ_ONLY_TABLE = "read-only table"
    METADATA_FULL = "metadata full"
    UNTOLD = "untold"


def cause_of(case: PoolCase) -> Cause | None:
    """None: it may be written to, though it may be out of space for data."""
    status = case.live.status
    if isinstance(status, PoolFailure):
        return Cause.FAILED if status.mode is PoolMode.FAIL else Cause.NOT_UNDERSTOOD
    if status is None or status.mode in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}:
        return None
    if status.needs_check:
        return Cause.NEEDS_CHECK
    table = read_table(case.live.device.table) if case.live.device is not None else None
    if isinstance(table, PoolTable) and table.read_only:
        return Cause.READ_ONLY_TABLE
    return Cause.METADATA_FULL if _metadata_is_full(status) else Cause.UNTOLD


def _metadata_is_full(status: PoolStatus) -> bool:
    """What the kernel keeps back for its own commits counts as used in what it tells."""
    return status.metadata_used >= status.metadata_total


def words_of(case: PoolCase, cause: Cause) -> str:
    """What is wrong, and the very commands that help, in their order."""
    name, node = case.name, _metadata_path(case)
    if cause is Cause.READ_ONLY_TABLE:
        return f"pool {name} is ro, as its table says read_only: nothing is damaged. Load its table without that word"
    if cause is Cause.METADATA_FULL:
        return f"pool {name} is ro, as its metadata, {node}, is full: nothing is damaged. Give it more"
    if cause is Cause.UNTOLD:
        return (
            f"pool {name} is ro, and nothing that it tells says why: `dmesg` may. Nothing says that it is damaged: "
            f"{_down(name)}, then `state: Active` again, which checks its metadata first"
        )
    if cause is Cause.NOT_UNDERSTOOD:
        text = case.live.status.text if isinstance(case.live.status, PoolFailure) else ""
        return f"pool {name} answers `{text}` when asked for its status, which is not understood: nothing is done to it"
    return f"{_broken(case, cause)}. If a disk failed (`dmesg` names it), mend that first. Then {_repair(name, node)}"


def _broken(case: PoolCase, cause: Cause) -> str:
    name, node = case.name, _metadata_path(case)
    if cause is Cause.FAILED:
        return (
            f"pool {name} is fail: its metadata, {node}, could not be written, nor what was there before be read again; "
            f"the kernel serves nothing from it until it was down"
        )
    data = case.known.data if case.known is not None and case.known.data else "its data"
    text = (
        f"pool {name} is needs_check: a commit of its metadata, {node}, failed, or the flush of {data} that comes before "
        f"it, now or before it came up. What was committed before that counts, and nothing more is written"
    )
    status = case.live.status
    if isinstance(status, PoolStatus) and _metadata_is_full(status):
        return f"{text}. It is full besides: the kernel lets it grow only after the repair, which comes first"
    return text


def _repair(name: str, node: str) -> str:
    return (
        f"{_down(name)}, then: `thin_check --ignore-non-fatal-errors {node}`; if that finds damage `thin_repair -i {node} -o NEW` and copy NEW "
        f"back; `thin_check --clear-needs-check-flag {node}`; then `state: Active` again"
    )


def _down(name: str) -> str:
    return (
        f"stop what uses {name}, set `state: Inactive` in its record and in those of its devices that are Active, wait "
        f"until it is gone"
    )


def _metadata_path(case: PoolCase) -> str:
    """The path, not the loop on it: that goes with the pool."""
    return case.known.metadata if case.known is not None and case.known.metadata else "METADATA"

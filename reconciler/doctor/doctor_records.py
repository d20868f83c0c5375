"""What `doctor` says of the records: how the daemon last found them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.doctor.checks import Check, Mark
from reconciler.model.condition import DRIFT, Reason
from reconciler.model.conditions import Status
from reconciler.model.names import Key

_SUBJECT = "records"
_SHOWN = 6
"""Records in one line: `get` lists all."""
_SOON = 60.0
"""Seconds in which what is drift, or waits, is expected to pass: shorter than any alert waits for it."""
_WAITING = frozenset({Reason.WAITING_FOR_POOL, Reason.WAITING_FOR_ORIGIN})


def no_records(*, daemon_runs: bool) -> Check:
    """There is nothing that could be said of any."""
    text = "there are none yet" if daemon_runs else "no daemon is at work, which would tell how they are"
    return Check(_SUBJECT, Mark.LEFT, text)


def check_records(statuses: Mapping[Key, Status], unseen: Collection[Key], *, now: float, state: str) -> Check:
    """While the daemon runs. `unseen` have no status yet; `state` is what command lines need to find the store."""
    bad = [status for status in statuses.values() if not status.good]
    later = f"; {_are(len(unseen))} not looked at yet" if unseen else ""
    if not bad:
        return Check(_SUBJECT, Mark.LEFT if later else Mark.OK, f"{_as_desired(statuses)}{later}")
    bad.sort(key=lambda status: (_may_pass(status, now), status.reason in _WAITING, status.key))
    text = f"{_are(len(bad))} not as desired: {_listed(bad)}"
    if _may_pass(bad[0], now):
        return Check(_SUBJECT, Mark.LEFT, f"{text}, for less than a minute: the daemon sees to it{later}")
    return Check(_SUBJECT, Mark.WRONG, text + later, _todo(bad, state))


def _as_desired(statuses: Mapping[Key, Status]) -> str:
    text = f"{_are(len(statuses))} as desired"
    alone = sum(not status.ready for status in statuses.values())
    return f"{text}, or left alone on purpose ({alone})" if alone else text


def _may_pass(status: Status, now: float) -> bool:
    """Found lately, and of a kind that the daemon ends by itself."""
    return status.reason in DRIFT | _WAITING and now - status.since < _SOON


def _listed(bad: list[Status]) -> str:
    shown = ", ".join(f"{status.key} ({status.reason})" for status in bad[:_SHOWN])
    return f"{shown} and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else shown


def _todo(bad: list[Status], state: str) -> str:
    """Of the first, as the others may wait for that."""
    key = bad[0].key
    text = f"`dm-reconciler describe {'device' if key.device else 'pool'} {key}{state}` tells why, and what was tried"
    return f"{text}; `dm-reconciler get{state}` lists the others" if len(bad) > 1 else text


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"

"""What `doctor` says of the records, and when it asks for something to be done."""

from __future__ import annotations

from reconciler.doctor.checks import Check, Severity
from reconciler.doctor.state import check_records, no_records
from reconciler.model.conditions import Reason, Status
from reconciler.model.live import LiveState
from reconciler.model.names import Key

NOW = 1000.0


def status(name: str, reason: Reason = Reason.CONVERGED, age: float = 500.0, *, good: bool | None = None) -> Status:
    """Good where it is as desired, and else not, if nothing is said."""
    as_desired = reason is Reason.CONVERGED if good is None else good
    key = Key(*name.split("/"))
    return Status(key, LiveState.UNKNOWN, reason, "", since=NOW - age, good=as_desired)


def check(*statuses: Status, unseen: tuple[str, ...] = (), state: str = "") -> Check:
    keys = [Key(*name.split("/")) for name in unseen]
    return check_records({each.key: each for each in statuses}, keys, now=NOW, state=state)


def test_all_as_desired() -> None:
    found = check(status("tank"), status("tank/a"))
    assert (found.mark, found.message, found.todo) == (Severity.OK, "2 are as desired", "")


def test_what_is_left_alone_on_purpose_is_no_fault() -> None:
    found = check(status("tank"), status("tank/a", Reason.PAUSED, good=True))
    assert (found.mark, found.message) == (Severity.OK, "2 are as desired, or left alone on purpose (1)")


def test_what_failed_is_named_before_what_waits_and_leads_to_describe() -> None:
    orphan = status("tank/orph", Reason.WAITING_FOR_ORIGIN)
    found = check(status("tank"), orphan, status("tank/xfs", Reason.KERNEL_ERROR, 1), state=" --state-dir /s")
    assert found.mark is Severity.WRONG
    assert found.message == "2 are not as desired: tank/xfs (KernelError), tank/orph (WaitingForOrigin)"
    assert found.todo == (
        "`dm-reconciler describe device tank/xfs --state-dir /s` tells why, and what was tried; "
        "`dm-reconciler get --state-dir /s` lists the others"
    )


def test_a_pool_comes_before_its_devices() -> None:
    found = check(status("tank/a", Reason.POOL_UNHEALTHY), status("tank", Reason.POOL_UNHEALTHY))
    assert found.todo.startswith("`dm-reconciler describe pool tank` ")


def test_of_many_a_handful_is_named() -> None:
    found = check(*(status(f"tank/d{number}", Reason.BUSY) for number in range(9)))
    assert found.message.startswith("9 are not as desired: tank/d0 (Busy), ")
    assert found.message.endswith("tank/d5 (Busy) and 3 more")


def test_what_the_daemon_ends_by_itself_is_left_to_it_for_a_minute() -> None:
    for reason in (Reason.SUSPENDED, Reason.WAITING_FOR_ORIGIN):
        soon = check(status("tank/a", reason, 59))
        assert (soon.mark, soon.todo) == (Severity.LEFT, "")
        assert f"1 is not as desired: tank/a ({reason}), for less than a minute" in soon.message
        late = check(status("tank/a", reason, 60))
        assert late.mark is Severity.WRONG
        assert late.todo == "`dm-reconciler describe device tank/a` tells why, and what was tried"


def test_what_lasts_is_named_before_what_was_only_found_just_now() -> None:
    found = check(status("tank/a", Reason.SUSPENDED, 1), status("tank/b", Reason.SUSPENDED))
    assert found.mark is Severity.WRONG
    assert found.message == "2 are not as desired: tank/b (Suspended), tank/a (Suspended)"


def test_what_was_not_looked_at_yet_is_told() -> None:
    found = check(status("tank"), unseen=("tank/a", "tank/b"))
    assert (found.mark, found.message) == (Severity.LEFT, "1 is as desired; 2 are not looked at yet")
    both = check(status("tank", Reason.CONFLICT), unseen=("tank/a",))
    assert (both.mark, both.message) == (Severity.WRONG, "1 is not as desired: tank (Conflict); 1 is not looked at yet")


def test_where_nobody_tells_nothing_is_claimed() -> None:
    for daemon_runs in (True, False):
        assert (no_records(daemon_runs=daemon_runs).mark, no_records(daemon_runs=daemon_runs).todo) == (
            Severity.LEFT,
            "",
        )

"""What `doctor` offers, and what it leaves alone, for each state of a pool."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from reconciler.doctor.checks import (
    PoolView,
    Repair,
    Severity,
    check_intents,
    check_leaks,
    check_loops_of,
    check_pool,
    how_to_stop,
    leaked,
)
from reconciler.doctor.repairs import (
    changed_thins,
    delete_leaked,
    detach_loops,
    forget_lost,
    mend_transaction,
    repairs_of,
)
from reconciler.doctor.report import checks_of
from reconciler.doctor.take_over import Withheld, take_over
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, PoolMode
from reconciler.model.live import LiveDevice, ThinEntry, ThinIds
from reconciler.model.names import Key
from reconciler.model.steps import (
    BeginIntent,
    CompleteIntent,
    DeleteThin,
    DetachLoop,
    ForgetRecord,
    SaveDevice,
    SavePool,
    SetTransactionId,
)
from reconciler.model.stored import ForgottenThin, IntentKind
from reconciler.model.units import Bytes
from reconciler.planner.facts import PoolFacts
from tests.unit.planner import builders as a

TANK = Key("tank")
FIX = "dm-reconciler doctor --fix"
OTHERS_POOL = f"DMR-{'6' * 32}-{'c' * 32}"
"""The UUID that a store which is lost gave it."""


def view(facts: PoolFacts | None = None, ids: ThinIds | None = None, **rest: Any) -> PoolView:
    """A healthy pool with tank/a in it, which is live, but for what a test says."""
    of = facts or a.pool_facts()
    found = a.ids(a.ID) if ids is None else ids
    usual: dict[str, Any] = {
        "known": {"a": a.known()} if of.known is not None else {},
        "records": (a.record(),),
        "devices": {a.NAME: a.thin()},
        "block": 65536,
    }
    return PoolView(facts=replace(of, ids=found), ids=found, **{**usual, **rest})


def moved_on(**changes: Any) -> PoolFacts:
    return a.pool_facts(live=a.live_pool(of=a.status(transaction=9)), **changes)


def beside(*told: int, **rest: Any) -> PoolView:
    """As `view`, while the daemon is at work, which reports these ids as leaked."""
    return replace(view(**rest), ids=None, told_leaked=told)


def new_store(device: LiveDevice | None = None, **record: Any) -> PoolFacts:
    return a.pool_facts(
        knowing=None,
        recorded=a.pool_record(**record),
        live=a.live_pool(device or a.pool_device(uuid=OTHERS_POOL)),
    )


def test_of_a_healthy_pool_there_is_nothing_to_repair() -> None:
    assert repairs_of(view()) == []
    check = check_pool(view(), fix=FIX, daemon_runs=False, can_mend=False)
    assert (check.mark, check.todo) == (Severity.OK, "")


@pytest.mark.parametrize("spec", [{"paused": True}, {"external": True}])
def test_hands_off_is_hands_off(spec: dict[str, Any]) -> None:
    assert repairs_of(view(moved_on(recorded=a.pool_record(**spec)))) == []


class TestTransaction:
    def test_the_live_one_is_recorded_after_showing_what_differs(self) -> None:
        seen = view(moved_on(), ids=a.ids(_8=ThinEntry(16, 6)), devices={})
        repair = mend_transaction(seen)
        assert isinstance(repair, Repair)
        assert repair.steps == (SavePool(TANK, a.known_pool(transaction_id=9)),)
        assert "thin ids 8 (1MiB)" in repair.effect[0]
        assert "tank/a (thin id 7)" in repair.effect[1]
        assert repairs_of(seen) == [repair], "all else comes after it"

    def test_an_id_that_is_another_thin_by_now_is_told(self) -> None:
        seen = view(moved_on(), ids=a.ids(_7=ThinEntry(16, 8)))
        assert [device.key for device, _ in changed_thins(seen)] == [a.KEY]
        repair = mend_transaction(seen)
        assert isinstance(repair, Repair)
        assert "it is another thin" in " ".join(repair.effect)

    def test_nothing_is_recorded_without_comparing(self) -> None:
        assert mend_transaction(replace(view(moved_on()), ids=None)) is None

    def test_an_operation_under_way_explains_it(self) -> None:
        facts = a.pool_facts(live=a.live_pool(of=a.status(transaction=a.TRANSACTION + 1)), intents=(a.intent(),))
        assert mend_transaction(view(facts)) is None

    def test_a_pool_that_is_down_is_compared_too(self) -> None:
        repair = mend_transaction(view(a.pool_facts(live=a.down(metadata=a.at_rest(9)))))
        assert isinstance(repair, Repair)
        assert repair.steps == (SavePool(TANK, a.known_pool(transaction_id=9)),)

    @pytest.mark.parametrize(
        "facts",
        [
            moved_on(knowing=a.known_pool(uuid="DMR-x", block=64)),
            a.pool_facts(live=a.live_pool(of=a.status(PoolMode.NEEDS_CHECK, 9))),
            a.pool_facts(live=a.down(metadata=a.at_rest(9), data=a.missing())),
            moved_on(knowing=a.known_pool(external=True)),
        ],
    )
    def test_where_it_would_not_help_it_is_not_offered(self, facts: PoolFacts) -> None:
        assert mend_transaction(view(facts)) is None

    UNKNOWN: ClassVar[dict[str, Any]] = {"known": {}, "devices": {}, "ids": a.ids(_7=ThinEntry(16, 3))}
    """A store from before tank/a was made, which is not live."""

    @pytest.mark.parametrize("facts", [moved_on(), a.pool_facts(live=a.down(metadata=a.at_rest(9)))])
    def test_an_older_store_never_has_an_empty_device_made_beside_its_data(self, facts: PoolFacts) -> None:
        seen = view(facts, **self.UNKNOWN)
        found = mend_transaction(seen)
        assert isinstance(found, Withheld)
        assert "at transaction 9, the store expects 4" in found.message
        assert "tank/a would then be made anew, empty" in found.message
        assert "that nobody names: 7 (1MiB, of transaction 3)" in found.message
        assert "for each of tank/a: add `adopt: {deviceId: ..., dmName: ...}`" in found.todo
        assert repairs_of(seen) == []
        pool, *_ = checks_of(seen, FIX)
        assert (pool.mark, pool.message, pool.todo) == (Severity.WRONG, found.message, found.todo)

    @pytest.mark.parametrize(
        "rest",
        [
            pytest.param({"records": (a.record(adopt={"deviceId": a.ID, "dmName": a.NAME}),)}, id="it is named"),
            pytest.param({"records": (a.record(paused=True),)}, id="it makes nothing"),
            pytest.param({"records": (a.record("Absent"),)}, id="it is to go"),
            pytest.param({"records": ()}, id="there is no record"),
            pytest.param({"ids": {}}, id="there is no data"),
        ],
    )
    def test_once_nothing_can_be_made_in_its_place_it_is_recorded(self, rest: dict[str, Any]) -> None:
        repair = mend_transaction(view(moved_on(), **{**self.UNKNOWN, **rest}))
        assert isinstance(repair, Repair)
        assert repair.steps == (SavePool(TANK, a.known_pool(transaction_id=9)),)

    def test_what_a_live_device_shows_is_known_again(self) -> None:
        repair = mend_transaction(view(moved_on(), **{**self.UNKNOWN, "devices": {a.NAME: a.thin()}}))
        assert isinstance(repair, Repair)
        assert repair.steps == (SavePool(TANK, a.known_pool(transaction_id=9)), SaveDevice(a.KEY, a.known()))
        assert "tank/a is thin id 7 again, which it shows" in repair.effect

    def test_what_an_operation_under_way_will_make_is_left_to_it(self) -> None:
        facts = moved_on(intents=(a.intent(thin_id=a.ID),))
        repair = mend_transaction(view(facts, **{**self.UNKNOWN, "devices": {a.NAME: a.thin()}}))
        assert isinstance(repair, Repair)
        assert len(repair.steps) == 1

    def test_of_one_at_rest_that_cannot_be_read_it_says_how(self) -> None:
        facts = a.pool_facts(live=a.down(metadata=a.at_rest(9)))
        found = mend_transaction(replace(view(facts), ids=None, ids_trouble="no direct I/O"))
        assert isinstance(found, Withheld)
        assert found.message.endswith("its thin ids cannot be read: no direct I/O")
        assert "`losetup --find --show --nooverlap /srv/tank.meta`; then run this again" in found.todo


class TestTakeOver:
    def test_the_pool_and_its_live_devices_are_known_again(self) -> None:
        live = a.thin(uuid=a.FOREIGN_UUID)
        repair = take_over(view(new_store(), devices={a.NAME: live}))
        assert isinstance(repair, Repair)
        pool, device = repair.steps
        assert isinstance(pool, SavePool)
        assert pool.pool == a.known_pool(uuid=OTHERS_POOL, made_files=())
        assert isinstance(device, SaveDevice)
        assert (device.device.uuid, device.device.thin_id) == (a.FOREIGN_UUID, a.ID)
        assert device.device.created_at == a.TRANSACTION - 1
        assert not device.device.adopted

    def test_a_device_without_a_uuid_counts_as_adopted(self) -> None:
        repair = take_over(view(new_store(), devices={a.NAME: a.thin(uuid="")}))
        assert isinstance(repair, Repair)
        device = repair.steps[1]
        assert isinstance(device, SaveDevice)
        assert device.device.adopted

    @pytest.mark.parametrize(
        "devices",
        [
            {},
            {a.NAME: a.thin(uuid="LVM-x")},
            {a.NAME: a.thin(uuid=""), "twin": a.thin(uuid="", name="twin")},
            {a.NAME: LiveDevice(a.info(), a.other_table())},
        ],
    )
    def test_an_empty_device_is_never_put_in_the_place_of_one_that_may_be_there(
        self, devices: dict[str, LiveDevice]
    ) -> None:
        found = take_over(view(new_store(), devices=devices))
        assert isinstance(found, Withheld)
        assert "tank/a" in found.message
        assert "7 (0B, of transaction 3)" in found.message

    @pytest.mark.parametrize(
        "record",
        [
            a.record(paused=True),
            a.record("Absent"),
            a.record(adopt={"deviceId": a.ID, "dmName": a.NAME}),
        ],
    )
    def test_a_record_that_makes_nothing_does_not_hold_it_back(self, record: Any) -> None:
        repair = take_over(view(new_store(), devices={}, records=(record,)))
        assert isinstance(repair, Repair)
        assert len(repair.steps) == 1

    @pytest.mark.parametrize(
        "facts",
        [
            a.pool_facts(),
            new_store(a.pool_device(uuid="LVM-x")),
            new_store(a.pool_device(a.pool_table(data=Devno(7, 9)), uuid=OTHERS_POOL)),
            new_store(blockSize="128KiB"),
            a.pool_facts(knowing=None, live=a.live_pool(of=a.status(PoolMode.RO))),
            a.pool_facts(knowing=None, live=a.down(metadata=a.missing())),
            a.pool_facts(knowing=a.known_pool(created=False)),
        ],
    )
    def test_what_is_not_provably_the_records_is_left(self, facts: PoolFacts) -> None:
        assert take_over(view(facts)) is None


class TestLost:
    def test_it_is_forgotten_so_that_it_is_made_anew(self) -> None:
        (repair,) = forget_lost(view(ids={}, devices={}))
        assert repair.steps == (ForgetRecord(a.KEY),)
        assert "lost already" in repair.effect[0]
        assert "empty" in repair.effect[1]

    @pytest.mark.parametrize(
        ("records", "words"),
        [((), "nothing is made"), ((a.record(size=None, snapshotOf="golden"),), "a snapshot of golden")],
    )
    def test_what_comes_after_is_told(self, records: Any, words: str) -> None:
        (repair,) = forget_lost(view(ids={}, devices={}, records=records))
        assert words in repair.effect[1]

    @pytest.mark.parametrize(
        "seen",
        [
            view(ids={}),
            view(ids={}, devices={}, records=(a.record("Absent"),)),
            view(ids={}, devices={}, records=(a.record(paused=True),)),
            view(moved_on(), ids={}, devices={}),
            replace(view(devices={}), ids=None),
            view(a.pool_facts(intents=(a.intent(IntentKind.DELETE, a.ID),)), ids={}, devices={}),
        ],
    )
    def test_it_is_left_while_it_is_not_certain_or_not_wanted(self, seen: PoolView) -> None:
        assert forget_lost(seen) == []


class TestLeaked:
    FORMER: ClassVar = {3: ForgottenThin(3, "old", 2), 4: ForgottenThin(4, "x", 2)}
    IDS = a.ids(a.ID, _3=ThinEntry(16, 2), _4=ThinEntry(16, 5), _5=ThinEntry(0, 2))
    """3 is what the store made, 4 another thin under the same id, 5 somebody's."""

    def seen(self, **rest: Any) -> PoolView:
        return view(**{"ids": self.IDS, "former": self.FORMER, **rest})

    def test_only_what_this_store_made_is_deleted_with_the_intent_flushed_first(self) -> None:
        assert list(leaked(self.seen())) == [3, 4, 5]
        (repair,) = delete_leaked(self.seen())
        begin, *others = repair.steps
        assert isinstance(begin, BeginIntent)
        assert (begin.intent.kind, begin.intent.thin_id) == (IntentKind.DELETE, 3)
        key = begin.intent.key
        assert others == [
            DeleteThin("tank", 3, a.TRANSACTION),
            SetTransactionId("tank", a.TRANSACTION),
            CompleteIntent(key, None),
        ]
        assert "tank/old" in repair.why
        assert "1MiB" in repair.effect[0]

    def test_the_daemon_ends_it_where_it_was_interrupted_and_touches_no_other_device(self) -> None:
        (repair,) = delete_leaked(self.seen())
        begin = repair.steps[0]
        assert isinstance(begin, BeginIntent)
        facts = replace(
            a.facts(None, knowing=None, intent=begin.intent, ids=self.IDS), key=begin.key, known=None, live=None
        )
        assert list(a.steps(facts)) == list(repair.steps[1:])

    @pytest.mark.parametrize(
        "changes",
        [
            {"facts": moved_on()},
            {"facts": a.pool_facts(live=a.live_pool(of=a.status(PoolMode.RO)))},
            {"facts": a.pool_facts(intents=(a.intent(),))},
            {"devices": {"somebody": a.thin(3, name="somebody", uuid="")}},
            {"records": (a.record(adopt={"deviceId": 3, "dmName": "x"}),)},
            {"former": {}},
        ],
    )
    def test_nothing_is_deleted_that_is_in_use_wanted_or_uncertain(self, changes: dict[str, Any]) -> None:
        assert delete_leaked(self.seen(**changes)) == []

    def test_they_are_told(self) -> None:
        check = check_leaks(self.seen(), fix=FIX, stop="")
        assert check is not None
        assert check.mark is Severity.WRONG
        assert "3 leaked, 2MiB: 3 (1MiB), 4 (1MiB), 5 (0B); made by this store: 3; the other 2" in check.message
        assert f"`{FIX}`" in check.todo

    def test_beside_the_daemon_its_word_is_passed_on_with_how_to_stop_it(self) -> None:
        check = check_leaks(beside(3, 5, former=self.FORMER), fix=FIX, stop=how_to_stop(812))
        assert check is not None
        assert check.mark is Severity.WRONG
        assert "reports 2 leaked: 3, 5; made by this store, as it seems: 3" in check.message
        assert check.todo.startswith("stop the daemon (`systemctl stop dm-reconciler`, or `kill 812`); then `" + FIX)
        assert "then start it again" in check.todo

    def test_nobody_is_sent_to_stop_the_daemon_for_what_is_never_deleted(self) -> None:
        for seen in (beside(5, 9, former=self.FORMER), self.seen(former={})):
            check = check_leaks(seen, fix=FIX, stop=how_to_stop(812))
            assert check is not None
            assert check.mark is Severity.WRONG
            assert "`--fix` deletes none of them" in check.message
            assert "`adopt: {deviceId: " in check.todo
            assert "stop" not in check.todo

    def test_of_a_pool_that_is_left_alone_or_not_known_yet_they_are_left(self) -> None:
        paused = a.pool_facts(recorded=a.pool_record(paused=True))
        for seen in (
            beside(3, facts=paused, former=self.FORMER),
            beside(5, facts=paused),
            beside(5, facts=new_store()),
        ):
            check = check_leaks(seen, fix=FIX, stop="")
            assert check is not None
            assert (check.mark, check.todo) == (Severity.LEFT, "")

    def test_where_nothing_is_told_of_them_nothing_is_said(self) -> None:
        assert check_leaks(beside(), fix=FIX, stop="") is None


class TestLoops:
    @pytest.mark.parametrize("record", [None, a.pool_record(state="Inactive"), a.pool_record(state="Absent")])
    def test_of_a_pool_that_is_not_to_be_live_they_are_detached(self, record: Any) -> None:
        found = detach_loops(view(a.pool_facts(recorded=record, live=a.down())))
        assert [repair.steps for repair in found] == [(DetachLoop("/srv/tank.data"),), (DetachLoop("/srv/tank.meta"),)]

    @pytest.mark.parametrize(
        "facts",
        [
            a.pool_facts(live=a.down()),
            a.pool_facts(recorded=None),
            a.pool_facts(recorded=None, knowing=None, live=a.down()),
            a.pool_facts(recorded=None, live=a.down(data=a.data(used_by=("a mount at /x",)), metadata=a.missing())),
        ],
    )
    def test_loops_that_serve_or_that_somebody_uses_are_left(self, facts: PoolFacts) -> None:
        assert detach_loops(view(facts)) == []

    def test_two_on_one_file_are_told_and_never_detached(self) -> None:
        size = Bytes(a.DATA_SIZE)
        both = a.data(loops=(a.loop(a.DATA_DEVNO, size), a.loop(Devno(7, 5), size)))
        seen = view(a.pool_facts(recorded=None, live=a.down(data=both, metadata=a.missing())))
        assert detach_loops(seen) == []
        (check,) = check_loops_of(seen)
        assert check.mark is Severity.WRONG
        assert "/dev/loop0, /dev/loop5" in check.message


class TestChecks:
    def test_what_the_daemon_would_heal_asks_for_the_daemon(self) -> None:
        seen = view(a.pool_facts(live=a.down()))
        alone = check_pool(seen, fix=FIX, daemon_runs=False, can_mend=False)
        assert alone.mark is Severity.WRONG
        assert "systemctl start dm-reconciler" in alone.todo
        beside = check_pool(seen, fix=FIX, daemon_runs=True, can_mend=False)
        assert (beside.mark, beside.todo) == (Severity.LEFT, "")

    def test_what_can_be_repaired_names_the_command(self) -> None:
        check = check_pool(view(moved_on()), fix=FIX, daemon_runs=False, can_mend=True)
        assert Reason.METADATA_MISMATCH in check.message
        assert FIX in check.todo

    def test_a_damaged_pool_comes_with_its_repair(self) -> None:
        seen = view(a.pool_facts(live=a.live_pool(of=a.status(PoolMode.NEEDS_CHECK))))
        check = check_pool(seen, fix=FIX, daemon_runs=False, can_mend=False)
        assert check.message == "PoolUnhealthy: pool tank is needs_check"
        assert "thin_check" in check.todo

    def test_a_pool_that_cannot_be_looked_at(self) -> None:
        check = check_pool(view(a.pool_facts(stuck="it hangs")), fix=FIX, daemon_runs=False, can_mend=False)
        assert check.mark is Severity.UNKNOWN
        assert repairs_of(view(a.pool_facts(stuck="it hangs"))) == []

    def test_an_operation_under_way_is_left_to_the_daemon(self) -> None:
        (check,) = check_intents(view(a.pool_facts(intents=(a.intent(),))), daemon_runs=False)
        assert check.mark is Severity.LEFT
        assert "tank/a" in check.message

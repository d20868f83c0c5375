"""One suite for every kernel: the corpus, step by step, and random sequences from the same operations.

`Compared` plays each operation on the simulated kernel first. What would block there is not tried on a real one; all
else must come out the same, and leave the same devices behind, in the same states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from reconciler.kernel.simulated import WouldBlockError
from reconciler.kernel.simulated.machine import Release
from tests.testing.conformance import operations as op
from tests.testing.conformance.corpus import Scenario, on
from tests.testing.conformance.environment import SimulatedEnvironment
from tests.testing.conformance.player import Environment, play, show

POOL_BLOCKS = st.sampled_from([6, 8, 16, 24])
FEATURES = st.sampled_from(["1 error_if_no_space", "2 no_discard_passdown error_if_no_space"])
THINS = st.sampled_from(["t0", "t1", "t2"])
IDS = st.integers(0, 3)
NUMBERS = st.integers(0, 7)
LENGTHS = st.sampled_from([16, 32])
ANY = st.sampled_from(["pool", "t0", "t1", "t2"])


class Compared:
    """The simulated kernel alone, or beside a real one of that release."""

    def __init__(
        self,
        other: Environment | None = None,
        told: Callable[[str], object] = lambda _: None,
        release: Release = Release.V6_12,
    ) -> None:
        self.release = release
        self.simulated = SimulatedEnvironment(other.prefix if other is not None else "", release)
        self.other = other
        self.played: list[tuple[op.Operation, str]] = []
        self._told = told
        self._changed()

    def play(self, operation: op.Operation) -> str:
        self._told(f"{operation}")
        try:
            result = play(self.simulated, operation)
        except WouldBlockError:
            self.played.append((operation, "would block"))
            return "would block"
        self.played.append((operation, result))
        if self.other is None:
            show(self.simulated)
            return result
        found = play(self.other, operation)
        assert found == result, self._differs("result", result, found)
        seen, real = self._shown(self.simulated), self._shown(self.other)
        assert real == seen, self._differs("state", seen, real)
        mine, theirs = self._changed()
        if isinstance(operation, op.PowerCut):
            return result  # another boot: there is no before
        assert mine == theirs, self._differs("has_changed()", mine, theirs)
        return result

    def run(self, scenario: Scenario) -> None:
        for operation, expected in scenario:
            found = self.play(operation)
            assert found == on(self.release, expected), self._differs("expected", expected, found)

    def _shown(self, environment: Environment) -> dict[str, dict[str, object]]:
        """But for how often a pool that was filled up announced that its metadata runs low."""
        filled = {operation.name for operation, _ in self.played if isinstance(operation, op.FillMetadata)}
        shown = show(environment)
        return {
            name: {key: value for key, value in each.items() if name not in filled or key != "events"}
            for name, each in shown.items()
        }

    def _changed(self) -> tuple[bool, bool]:
        mine = self.simulated.kernel.dm.has_changed()
        return mine, mine if self.other is None else self.other.kernel.dm.has_changed()

    def _differs(self, what: str, simulated: Any, real: Any) -> str:
        story = "\n".join(f"  {operation} -> {result}" for operation, result in self.played)
        return f"{what}: simulated {simulated}\n  real {real}\nafter\n{story}"


class RandomSequences(RuleBasedStateMachine):
    """Small pools, few thins. What a run of it finds to differ goes into the corpus, made short by hypothesis."""

    make: Callable[[], Compared] = Compared

    def __init__(self) -> None:
        super().__init__()
        self.kernels = type(self).make()

    def do(self, *operations: op.Operation) -> None:
        for operation in operations:
            self.kernels.play(operation)

    @initialize(blocks=POOL_BLOCKS, low_water=st.integers(0, 4))
    def begin(self, blocks: int, low_water: int) -> None:
        self.do(op.Create("pool", "p"), op.LoadPool("pool", blocks, low_water), op.Resume("pool"))
        self.do(op.Message("pool", "create_thin 0"), op.Create("t0"), op.LoadThin("t0", "0"), op.Resume("t0"))

    @rule(name=ANY, uuid=st.sampled_from(["", "p", "q"]))
    def create(self, name: str, uuid: str) -> None:
        self.do(op.Create(name, uuid))

    @rule(blocks=POOL_BLOCKS, low_water=st.integers(0, 4), features=FEATURES)
    def load_pool(self, blocks: int, low_water: int, features: str) -> None:
        self.do(op.LoadPool("pool", blocks, low_water, features))

    @rule(name=THINS, thin_id=IDS, blocks=LENGTHS, read_only=st.booleans())
    def load_thin(self, name: str, thin_id: int, blocks: int, read_only: bool) -> None:
        self.do(op.LoadThin(name, str(thin_id), blocks, read_only))

    @rule(name=THINS, thin_id=IDS)
    def activate(self, name: str, thin_id: int) -> None:
        self.do(op.Create(name), op.LoadThin(name, str(thin_id)), op.Resume(name))

    @rule(name=THINS)
    def load_dead(self, name: str) -> None:
        self.do(op.load_error(name))

    @rule(name=ANY)
    def resume(self, name: str) -> None:
        self.do(op.Resume(name))

    @rule(name=ANY)
    def suspend(self, name: str) -> None:
        self.do(op.Suspend(name))

    @rule(name=ANY)
    def remove(self, name: str) -> None:
        self.do(op.Remove(name))

    @rule(name=ANY)
    def remove_deferred(self, name: str) -> None:
        self.do(op.RemoveDeferred(name))

    @rule(name=ANY)
    def clear(self, name: str) -> None:
        self.do(op.Clear(name))

    @rule(name=THINS, new=THINS)
    def rename(self, name: str, new: str) -> None:
        self.do(op.Rename(name, new))

    @rule(thin_id=IDS)
    def create_thin(self, thin_id: int) -> None:
        self.do(op.Message("pool", f"create_thin {thin_id}"))

    @rule(thin_id=IDS, origin=IDS)
    def create_snap(self, thin_id: int, origin: int) -> None:
        self.do(op.Message("pool", f"create_snap {thin_id} {origin}"))

    @rule(thin_id=IDS)
    def delete(self, thin_id: int) -> None:
        self.do(op.Message("pool", f"delete {thin_id}"))

    @rule(old=st.integers(0, 2), new=st.integers(0, 2))
    def set_transaction_id(self, old: int, new: int) -> None:
        self.do(op.Message("pool", f"set_transaction_id {old} {new}"))

    @rule(text=st.sampled_from(["reserve_metadata_snap", "release_metadata_snap", "@cancel_deferred_remove"]))
    def message(self, text: str) -> None:
        self.do(op.Message("pool", text))

    @rule(name=THINS, number=NUMBERS, token=st.sampled_from(["a", "b"]))
    def write(self, name: str, number: int, token: str) -> None:
        if self._is_readable(name) and not self._is_read_only(name):
            self.do(op.Write(name, number, token))

    @rule(name=THINS, number=NUMBERS)
    def read(self, name: str, number: int) -> None:
        if self._is_readable(name):
            self.do(op.Read(name, number))

    @rule()
    def power_cut(self) -> None:
        self.do(op.PowerCut("metadata"), op.Create("pool", "p"), op.LoadPool("pool", 24), op.Resume("pool"))

    def _is_readable(self, name: str) -> bool:
        info = self.kernels.simulated.kernel.dm.info(self.kernels.simulated.prefix + name)
        return info is not None and info.live_table

    def _is_read_only(self, name: str) -> bool:
        info = self.kernels.simulated.kernel.dm.info(self.kernels.simulated.prefix + name)
        return info is not None and info.read_only

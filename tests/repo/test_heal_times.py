"""Figures of how long healing took, as simulated lives and chaos print them."""

from __future__ import annotations

import logging

from chaos.report import heal_times
from reconciler.model.names import Key
from reconciler.telemetry.logs import TextFormatter, log_context
from tools.heal_times import percentile, table


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0], share) for share in (1, 25, 50, 51, 99, 100)] == [1, 1, 2, 3, 4, 4]
    assert percentile([float(number) for number in range(1, 201)], 99) == 198


def test_a_kind_has_a_line_and_all_have_one_together() -> None:
    head, often, seldom, together = table({"NodeMissing": [1.0], "Suspended": [5.0, 6.0, 40.0]})
    assert "median" in head
    assert often.split() == ["3", "6.00", "s", "40.00", "s", "40.00", "s", "Suspended"]
    assert seldom.endswith("NodeMissing")
    assert together.split()[:2] == ["4", "5.00"]


def test_they_are_read_from_the_daemons_log() -> None:
    def line(message: str, action: str = "", seconds: float | None = None) -> str:
        record = logging.LogRecord("reconciler", logging.INFO, "", 0, message, (), None)
        record.__dict__.update(log_context(Key("tank", "a"), reason="Suspended", action=action, seconds=seconds))
        return TextFormatter().format(record)

    log = "\n".join(
        [
            line("tank-a is suspended"),
            line("resume tank-a", action="resume", seconds=0.25),
            line("healed: resume tank-a", seconds=5.125),
            line("healed by a second worker", seconds=7.5),
        ]
    )
    assert heal_times(log) == {"Suspended": [5.125, 7.5]}

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.telemetry.logs import catch_strays, log_context, setup

LOG = logging.getLogger("reconciler.test")
BASE = Key("tank", "base")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def fail() -> None:
    raise ValueError("broken")


def log_a_failure() -> None:
    try:
        fail()
    except ValueError:
        LOG.exception("it failed")


def test_a_line_for_people_names_what_it_is_about() -> None:
    stream = io.StringIO()
    setup("text", stream, environ={})
    LOG.info("resumed", extra=log_context(BASE, reason="Suspended", action="resume", seconds=0.0123))
    time, level, rest = stream.getvalue().split(maxsplit=2)
    assert re.fullmatch(TIME, time)
    assert (level, rest) == (
        "INFO",
        "resumed pool=tank device=base reason=Suspended action=resume seconds=0.012\n",
    )


def test_a_line_names_nothing_that_was_not_given() -> None:
    stream = io.StringIO()
    setup("text", stream, environ={})
    LOG.warning("low", extra=log_context(Key("tank")))
    LOG.info("started")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("WARNING low pool=tank")
    assert second.endswith("INFO    started")


def test_a_value_with_spaces_is_quoted() -> None:
    stream = io.StringIO()
    setup("text", stream, environ={})
    LOG.info("odd", extra={"device": 'a "b"'})
    assert stream.getvalue().endswith('odd device="a \\"b\\""\n')


@pytest.mark.security("S23")
def test_what_programs_said_moves_no_cursor() -> None:
    stream = io.StringIO()
    setup("text", stream, environ={})
    LOG.info("mkfs said \x1b[2J\r\x9b1m")
    assert stream.getvalue().endswith("mkfs said \\x1b[2J\\x0d\\x9b1m\n")


def test_each_machine_readable_line_is_one_object() -> None:
    stream = io.StringIO()
    setup("json", stream, environ={})
    LOG.info("resumed\nfully", extra=log_context(BASE, reason="Suspended", seconds=0.5))
    log_a_failure()
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "message": "resumed\nfully",
        "pool": "tank",
        "device": "base",
        "reason": "Suspended",
        "seconds": 0.5,
    }
    assert second["level"] == "error"
    assert "ValueError: broken" in second["trace"]


@pytest.mark.parametrize(
    "said", ["two\nlines", "\r\n\t\x00\x1b[2J\x7f\x85\u2028", "\udcff of a file's name", 'a "quote" \\', "%s %d", "🦄"]
)
def test_a_machine_readable_line_is_one_line_whatever_is_said(said: str) -> None:
    stream = io.StringIO()
    setup("json", stream, environ={})
    LOG.warning("%s", said, extra=log_context(BASE, reason=said))
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert (json.loads(line)["message"], json.loads(line)["reason"]) == (said, said)


def test_of_several_lines_for_people_the_first_says_what_they_are_about() -> None:
    stream = io.StringIO()
    setup("text", stream, environ={})
    LOG.error("mkfs failed\nno room", extra=log_context(BASE, reason="NotCreated"))
    first, second = stream.getvalue().splitlines()
    assert first.endswith("ERROR   mkfs failed pool=tank device=base reason=NotCreated")
    assert second == "no room"


def test_what_nobody_caught_is_a_line_like_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    monkeypatch.setattr("threading.excepthook", threading.excepthook)
    stream = io.StringIO()
    setup("json", stream, environ={})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        catch_strays()
        warnings.warn("take care", stacklevel=1)
        logging.captureWarnings(capture=False)
    stray = threading.Thread(target=fail)
    stray.start()
    stray.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    warned, *caught = (json.loads(line) for line in stream.getvalue().splitlines())
    assert [(line["level"], line["reason"], "ValueError: broken" in line["trace"]) for line in caught] == [
        ("critical", "ValueError", True)
    ] * 2
    assert (warned["level"], "take care" in warned["message"]) == ("warning", True)


def in_the_journal(tmp_path: Path, format_: str = "text", identity: str = "") -> list[str]:
    """Lines as they go to a stream that is the journal's, by JOURNAL_STREAM."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        stat = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": identity or f"{stat.st_dev}:{stat.st_ino}"}
        setup("json" if format_ == "json" else "text", stream, environ=environ, level=logging.DEBUG)
        LOG.debug("d")
        LOG.info("i")
        LOG.warning("w", extra=log_context(BASE))
        LOG.critical("c")
        log_a_failure()
    return path.read_text().splitlines()


def test_the_journal_gets_priorities_in_place_of_times(tmp_path: Path) -> None:
    lines = in_the_journal(tmp_path)
    assert lines[:5] == ["<7>d", "<6>i", "<4>w pool=tank device=base", "<2>c", "<3>it failed"]
    assert all(line.startswith("<3>") for line in lines[4:])
    assert lines[-1] == "<3>ValueError: broken"


def test_an_inherited_journal_stream_that_is_not_ours_is_not_believed(tmp_path: Path) -> None:
    assert in_the_journal(tmp_path, identity="1:1")[1].endswith("INFO    i")


def test_json_is_json_in_the_journal_too_with_the_priority_that_it_takes_off(tmp_path: Path) -> None:
    lines = in_the_journal(tmp_path, "json")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<2>", "<3>"]
    assert [json.loads(line[3:])["message"] for line in lines] == ["d", "i", "w", "c", "it failed"]


def test_a_second_setup_takes_the_place_of_the_first_and_leaves_others_alone() -> None:
    others = logging.getLogger().handlers[:]
    first, second = io.StringIO(), io.StringIO()
    setup("text", first, environ={})
    handler = setup("text", second, environ={})
    LOG.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert logging.getLogger().handlers == [*others, handler]


def test_debug_is_left_out_unless_asked_for() -> None:
    stream = io.StringIO()
    setup("text", stream, environ={})
    LOG.debug("detail")
    assert stream.getvalue() == ""

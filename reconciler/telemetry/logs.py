"""Log lines: as text for people, for the journal, and as JSON for machines. Each names the record that it is about."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from reconciler.model.conditions import rfc3339
from reconciler.model.names import Key

Format = Literal["text", "json"]

_LOG: Final = logging.getLogger(__name__)
FIELDS: Final = ("pool", "device", "reason", "action", "seconds")
"""The fields that a line may get from `extra`."""
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""The control characters with their escapes. Messages quote programs, which must not control a terminal."""


def setup(
    format: Format,  # noqa: A002 - the option is called --log-format
    stream: TextIO,
    *,
    environ: Mapping[str, str] | None = None,
    level: int = logging.INFO,
) -> logging.Handler:
    """Sends the lines of all loggers to `stream`, instead of where an earlier call sent them. Returns the handler."""
    handler = _Handler(stream)
    handler.setFormatter(_formatter(format, stream, os.environ if environ is None else environ))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    return handler


def log_context(key: Key, *, reason: str = "", action: str = "", seconds: float | None = None) -> dict[str, Any]:
    """The `extra` of a line that is about a record."""
    return {"pool": key.pool, "device": key.device, "reason": str(reason), "action": action, "seconds": seconds}


def catch_strays() -> None:
    """Logs uncaught exceptions of any thread, and Python's warnings, like all other lines. For the daemon."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _tell_stray
    threading.excepthook = lambda stray: _tell_stray(stray.exc_type, stray.exc_value, stray.exc_traceback)


def _tell_stray(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None:
        error = kind()
    text = f"{kind.__name__} that nobody caught; this is a bug"
    _LOG.critical("%s", text, exc_info=(kind, error, trace), extra={"reason": kind.__name__})


class _Handler(logging.StreamHandler[TextIO]):
    """A type of its own, so that a second call replaces the handler of the first and leaves all others alone."""


def _formatter(format: Format, stream: TextIO, environ: Mapping[str, str]) -> logging.Formatter:  # noqa: A002
    is_journal = _is_journal(stream, environ)
    if format == "json":
        return JournalFormatter(_json) if is_journal else JsonFormatter()
    return JournalFormatter(_text) if is_journal else TextFormatter()


class TextFormatter(logging.Formatter):
    """Formats a line as `TIME LEVEL message pool=tank device=base reason=Suspended`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{rfc3339(record.created)} {record.levelname:<7} {_text(record)}"


class JournalFormatter(logging.Formatter):
    """Formats lines for the journal: a priority instead of time and level. The journal removes the priority
    (sd-daemon(3)), adds its own time, and `journalctl -p` filters by it.
    """

    def __init__(self, said: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self._said = said

    def format(self, record: logging.LogRecord) -> str:
        # The journal makes one entry of each line, so each line needs the priority.
        return "\n".join(f"<{_priority(record.levelno)}>{line}" for line in self._said(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """Formats each line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return _json(record)


def _json(record: logging.LogRecord) -> str:
    line = {
        "time": rfc3339(record.created),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
        **_fields(record),
    }
    trace = _trace(record)
    if trace:
        line["trace"] = trace
    return json.dumps(line, default=str)


def _text(record: logging.LogRecord) -> str:
    first, _, more = record.getMessage().partition("\n")
    words = [first, *(f"{name}={_word(value)}" for name, value in _fields(record).items())]
    lines = [" ".join(words), more, _trace(record)]
    return "\n".join(filter(None, lines)).translate(_CONTROL)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    given = {name: getattr(record, name, None) for name in FIELDS}
    return {name: value for name, value in given.items() if value is not None and value != ""}


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return json.dumps(text) if any(char.isspace() or char in '"=' for char in text) else text


def _trace(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def _priority(level: int) -> int:
    """The syslog(3) number of the level."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is the one that JOURNAL_STREAM names. The variable may be inherited by a process that writes
    elsewhere (systemd.exec(5)).
    """
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"

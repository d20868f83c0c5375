"""Log lines: for people, for the journal, and as JSON for machines. Each names what it is about."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

from reconciler.model.names import Key
from reconciler.model.report import rfc3339

Format = Literal["text", "json"]

FIELDS: Final = ("pool", "device", "reason", "action", "seconds")
"""What `extra` may carry into a line."""
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Messages quote what programs said: nothing of it may move a terminal's cursor."""


def setup(
    format: Format,  # noqa: A002 - the option is called --log-format
    stream: TextIO,
    *,
    environ: Mapping[str, str] | None = None,
    level: int = logging.INFO,
) -> logging.Handler:
    """Send every logger's lines to `stream`, in place of where an earlier call sent them. Gives the handler back."""
    handler = _Handler(stream)
    handler.setFormatter(_formatter(format, stream, os.environ if environ is None else environ))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    return handler


def about(key: Key, *, reason: str = "", action: str = "", seconds: float | None = None) -> dict[str, Any]:
    """The `extra` of a line that is about a record."""
    return {"pool": key.pool, "device": key.device, "reason": str(reason), "action": action, "seconds": seconds}


class _Handler(logging.StreamHandler[TextIO]):
    """A type of its own, so that a second call finds the first one's and leaves everybody else's alone."""


def _formatter(format: Format, stream: TextIO, environ: Mapping[str, str]) -> logging.Formatter:  # noqa: A002
    if format == "json":
        return JsonFormatter()
    return JournalFormatter() if _is_journal(stream, environ) else TextFormatter()


class TextFormatter(logging.Formatter):
    """`TIME LEVEL message pool=tank device=base reason=Suspended`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{rfc3339(record.created)} {record.levelname:<7} {_text(record)}"


class JournalFormatter(logging.Formatter):
    """A priority in place of time and level: the journal has its own clock, and `journalctl -p` reads the priority."""

    def format(self, record: logging.LogRecord) -> str:
        # The journal makes an entry of each line, so each has to say how grave it is.
        return "\n".join(f"<{_priority(record.levelno)}>{line}" for line in _text(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
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
    words = [record.getMessage(), *(f"{name}={_word(value)}" for name, value in _fields(record).items())]
    trace = _trace(record)
    text = " ".join(words) + (f"\n{trace}" if trace else "")
    return text.translate(_CONTROL)


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
    """syslog(3)'s number of the level."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is what JOURNAL_STREAM names: it may be inherited by who writes elsewhere (systemd.exec(5))."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"

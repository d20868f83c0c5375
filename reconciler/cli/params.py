"""Types of options, and options that several commands share."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeVar

import click

STATE_DIR: Final = "/var/lib/dm-reconciler"
_UNITS: Final = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "": Fraction(1)}
_DURATION: Final = re.compile(r"(?P<count>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>ms|s|m|h|)")
_LONGEST: Final = 10 * 366 * 24 * 3600
"""Ten years in seconds. The clocks of the system take no more than a few hundred years."""
F = TypeVar("F", bound=Callable[..., Any])


def parse_duration(text: str) -> float:
    """The seconds in `30s`, `500ms`, `2m`, `1h` or plain seconds. Raises ValueError with what would be right."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write 30s, 500ms, 2m, 1h, or plain seconds")
    seconds = Fraction(match["count"]) * _UNITS[match["unit"]]
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is too long: at most ten years")
    return float(seconds)


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """A duration in seconds, as a float."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero
        """Whether a duration of zero makes sense."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return float(value)
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not seconds and not self.zero:
            self.fail("must be more than 0", param, ctx)
        return seconds


class Listen(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """HOST:PORT, as host and port."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        from reconciler.telemetry.http.server import parse_listen  # noqa: PLC0415  # not for a command that listens nowhere

        if isinstance(value, tuple):
            return value
        try:
            return parse_listen(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Folder(click.Path):
    """A directory, which shells complete. Whether it is one is checked by its reader, with a better message."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # only while a shell asks

        del ctx, param
        return [CompletionItem(incomplete, type="dir")]


class Kind(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """The word "pool" or "device", from its singular or plural."""

    name = "kind"

    def __init__(self, *, many: bool = False) -> None:
        self.shown = ["pools", "devices"] if many else ["pool", "device"]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        del ctx
        text = "|".join(self.shown)
        return f"({text})" if param.required else f"[{text}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        kind = str(value).lower().removesuffix("s")
        if kind not in {"pool", "device"}:
            self.fail(f"{value!r} is neither: write {' or '.join(f'`{each}`' for each in self.shown)}", param, ctx)
        return kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # only while a shell asks

        del ctx, param
        return [CompletionItem(each) for each in self.shown if each.startswith(incomplete)]


def state_dir_option(function: F) -> F:
    """Adds `--state-dir DIR`, passed as `state_dir: Path`."""
    return click.option(
        "--state-dir",
        metavar="DIR",
        type=Folder(path_type=Path, resolve_path=True),
        default=STATE_DIR,
        show_default=True,
        help="Where the daemon keeps its state.",
    )(function)


def manifests_option(function: F) -> F:
    """Adds `--manifests DIR`, passed as `manifests: Path`."""
    return click.option(
        "--manifests", required=True, metavar="DIR", type=Folder(path_type=Path), help="Where the records are."
    )(function)


def node_option(function: F) -> F:
    """Adds `--node NAME`, passed as `node: str`."""
    return click.option(
        "--node",
        metavar="NAME",
        default=socket.gethostname,
        show_default="the host's name",
        help="Who this host is, for records with `nodes`.",
    )(function)


def pace_options(function: F) -> F:
    """Adds `--suspend-grace` and `--prune-delay`, passed in seconds."""
    grace = click.option(
        "--suspend-grace",
        type=Duration(zero=True),
        default="5s",
        show_default=True,
        help="How long a suspension is let be: somebody may be taking a snapshot.",
    )
    delay = click.option(
        "--prune-delay",
        type=Duration(zero=True),
        default="60s",
        show_default=True,
        help="How long a record must be gone before its pool's `prune` is done.",
    )
    return grace(delay(function))


def output_option(*formats: str) -> Callable[[F], F]:
    """Adds `-o FORMAT`, passed as `output: str`; the first format is the default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        metavar="FORMAT",
        help=f"How to print it: {', '.join(formats[:-1])} or {formats[-1]}.",
    )


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of stored pools and devices for the shell's completion; of the kind before the name, if one is given."""
    del param
    from reconciler.cli.view import names  # noqa: PLC0415  # only while a shell asks

    try:
        known: Iterable[str] = names(Path(ctx.params.get("state_dir") or STATE_DIR), ctx.params.get("kind") or "")
    except Exception:  # noqa: BLE001  # a shell that completes shows nothing else anyway
        return []
    return [name for name in known if name.startswith(incomplete)]

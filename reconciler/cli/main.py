"""The program's entry: finds the command, and turns what it raises into one line and an exit code.

Every command in one line, so that listing them imports none of them.

A command NAME is `command` in the module `reconciler.cli.NAME`, whose docstring begins with the line given here.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

import click

from reconciler import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


COMMANDS: Final = {
    "run": "Keep the devices as the manifests declare them: the daemon.",
    "apply": "Converge once, show each step, and exit.",
    "plan": "Show what `apply` would do and why, and change nothing.",
    "get": "List pools and devices: desired, live, ready, and why not.",
    "tree": "Show pools, origins and their snapshots as a tree.",
    "describe": "Show everything known of one pool or device.",
    "events": "Show what was found and what was done about it, newest last.",
    "wait": "Wait until a device or pool is ready.",
    "validate": "Check manifests, without a kernel or a store.",
    "schema": "Print the JSON Schema of manifests, for editors.",
    "doctor": "Find out whether this host is fit, and what to do if not.",
    "forget": "Drop a record from the store, leave device and data alone.",
    "sandbox": "Run a command, or a shell, inside a throw-away kernel.",
}
"""The commands in the order in which people need them."""

PROGRAM: Final = "dm-reconciler"
ENVIRONMENT: Final = "DM_RECONCILER"
COMPLETE: Final = "_DM_RECONCILER_COMPLETE"
_INTERRUPTED: Final = 130
_NOBODY_READS: Final = 141
"""What a shell reports for a program that SIGPIPE ended, as in the middle of `... | head`."""

_EPILOG: Final = """\b
Examples:
  dm-reconciler validate manifests/
  dm-reconciler plan --manifests /etc/dm-reconciler
  dm-reconciler get devices -o wide
  dm-reconciler describe device tank/base

\b
Exit codes:
  0  converged, or nothing to do
  1  could not do the work (lock held, no kernel, no store)
  2  wrong usage
  3  manifests invalid
  4  something is not as desired (plan: changes pending)

\b
Every option can also be set in the environment, as DM_RECONCILER_COMMAND_OPTION:
  DM_RECONCILER_GET_STATE_DIR=/srv/state dm-reconciler get

\b
Completion for bash (zsh_source and fish_source are there too):
  eval "$(_DM_RECONCILER_COMPLETE=bash_source dm-reconciler)"
"""


class LazyGroup(click.Group):
    """Knows the commands by name, and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, import_module(f"reconciler.cli.{cmd_name}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # only while a shell asks

        found = [CompletionItem(name, help=said) for name, said in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches  # noqa: PLC0415  # only for who mistypes

            near = get_close_matches(name, COMMANDS, 1)
            ctx.fail(f"there is no command {name!r}" + (f": did you mean `{PROGRAM} {near[0]}`?" if near else ""))
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    if value and not ctx.resilient_parsing:
        click.echo(f"{PROGRAM} {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    # Without arguments, the group shows what commands there are: see parse_args.
    no_args_is_help=False,
    context_settings={
        "auto_envvar_prefix": ENVIRONMENT,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    # Images and units may set a variable DM_RECONCILER_VERSION, which has nothing to do with this option.
    allow_from_autoenv=False,
    help="Show the version and exit.",
)
def cli() -> None:
    """Keeps device-mapper thin devices in the state that YAML records declare."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code. It raises only for a bug in the program."""
    _let_every_text_through()
    instruction = os.environ.get(COMPLETE)
    if instruction:
        from click.shell_completion import shell_complete  # noqa: PLC0415  # only while a shell asks

        return shell_complete(cli, {}, PROGRAM, COMPLETE, instruction)
    try:
        return _run(list(sys.argv[1:] if args is None else args))
    except BrokenPipeError:
        _drop_output()
        return _NOBODY_READS
    except (KeyboardInterrupt, click.Abort):
        # The terminal has begun a line with ^C.
        click.echo(err=True)
        return _INTERRUPTED
    except Exception as error:
        from reconciler.cli.console import error_line  # noqa: PLC0415  # it knows every layer's errors

        told = error_line(error)
        if told is None:
            raise
        if isinstance(error, OSError):
            _drop_output()
        click.echo(f"{PROGRAM}{told.place}: {told.line}", err=True)
        return told.exit_code


def _run(args: list[str]) -> int:
    # Not cli.main(), which ends the process by itself if nobody reads the output.
    try:
        with cli.make_context(PROGRAM, args) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        return _flushed(done.exit_code)
    return _flushed(0)


def _flushed(code: int) -> int:
    """Flushes all output and returns `code`; otherwise the interpreter would find errors too late to report them."""
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _let_every_text_through() -> None:
    """Shows text that cannot be encoded, such as bytes in file names, as escapes instead of failing."""
    stream: Any = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Discards buffered output that cannot be written, because the interpreter would complain about it at its end."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)

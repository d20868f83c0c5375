"""`make man`: the manual page and the shells' completions under share/, from the commands and their reference.

They are kept in the tree, so that whoever installs or packages it needs nothing for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from reconciler import __version__
from reconciler.cli.main import COMMANDS, COMPLETE, PROGRAM, cli
from reconciler.cli.params import Kind
from tools import roff
from tools.roff import bold, escaped, help_text, italic, item, markdown, prose

TREE: Final = Path(__file__).resolve().parent.parent
SHARE: Final = TREE / "share"
PAGE: Final = SHARE / "man/man8/dm-reconciler.8"
COMPLETIONS: Final = {
    "bash": SHARE / "bash-completion/completions" / PROGRAM,
    "zsh": SHARE / "zsh/site-functions" / f"_{PROGRAM}",
    "fish": SHARE / "fish/vendor_completions.d" / f"{PROGRAM}.fish",
}
REFERENCE: Final = TREE / "docs/reference/commands.md"
DATE: Final = "2026-11-27"
"""Of the version that the page is about."""
_COMMENT: Final = r".\" Written by `make man` from the commands and docs/reference/commands.md: change those."
_SECTIONS: Final = {
    "EXIT STATUS": "Exit codes",
    "NAMES AND DURATIONS": "Names",
    "ENVIRONMENT": "Environment",
    "FILES": "Files",
    "SIGNALS": "Signals",
}
"""Of the page, by what they are called in the reference."""
_SEE_ALSO: Final = "dmsetup(8), dmeventd(8), losetup(8), mkfs.ext4(8), mkfs.xfs(8), systemd.service(5), thin_check(8), "


def main() -> None:
    _write(PAGE, page())
    for shell, path in COMPLETIONS.items():
        _write(path, completion(shell))


def page() -> str:
    """The whole of dm-reconciler(8)."""
    return roff.page([_COMMENT, *_head(), *_commands(), *_end()])


def completion(shell: str) -> str:
    """What that shell reads."""
    kind = get_completion_class(shell)
    assert kind is not None, shell  # noqa: S101  # click has these three
    return kind(cli, {}, PROGRAM, COMPLETE).source().strip() + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _head() -> Iterator[str]:
    summary = (cli.help or "").strip().rstrip(".")
    yield rf'.TH DM\-RECONCILER 8 {DATE} "{escaped(PROGRAM)} {__version__}" "System Administration"'
    yield from (".nh", ".ad l")  # nothing is hyphenated: what stands there can be searched for
    yield ".SH NAME"
    yield rf"{escaped(PROGRAM)} \- {escaped(summary[0].lower() + summary[1:])}"
    yield ".SH SYNOPSIS"
    for name in COMMANDS:
        yield ".br"
        yield _usage(name, _command(name))
    yield ".SH DESCRIPTION"
    yield prose(
        f"{summary}. A daemon compares the records with what is there, and activates, resumes, makes, grows, deactivates "
        "or deletes what differs. The other commands show what it finds and does, and do it once, by hand."
    )
    yield from help_text(cli.epilog.partition("Exit codes:")[0].removesuffix("\b\n") if cli.epilog else "")


def _commands() -> Iterator[str]:
    yield ".SH COMMANDS"
    yield prose("All of them take `--help`.")
    for name in COMMANDS:
        command = _command(name)
        yield f".SS {escaped(name)}"
        yield _usage(name, command)
        yield from help_text(command.help or "")
        for option in command.params:
            if isinstance(option, click.Option):
                yield from _option(option)
        yield from help_text(command.epilog or "")


def _end() -> Iterator[str]:
    for title, name in _SECTIONS.items():
        yield f".SH {title}"
        yield from markdown(_section(name))
        if name == "Names":
            yield from markdown(_section("Durations"))
    yield ".SH SEE ALSO"
    yield prose(f"{_SEE_ALSO} and the documentation that comes with the program: docs/reference.")


def _command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name  # noqa: S101  # the catalogue names what there is
    return command


def _section(name: str) -> str:
    """A section of the reference, without its heading."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{REFERENCE} has no section {name}"  # noqa: S101  # a test reads it too
    return found[1]


def _usage(name: str, command: click.Command) -> str:
    words = [f"{bold(PROGRAM)} {bold(name)}"]
    if any(isinstance(each, click.Option) for each in command.params):
        words.append(f"[{italic('OPTIONS')}]")
    words += [italic(_argument(each)) for each in command.params if isinstance(each, click.Argument)]
    return " ".join(words)


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    name = "|".join(argument.type.shown) if isinstance(argument.type, Kind) else str(argument.name).upper()
    if not argument.required:
        return f"[{name}]"
    return f"({name})" if "|" in name else name


def _option(option: click.Option) -> Iterator[str]:
    names = ", ".join(bold(each) for each in option.opts)
    value = "" if option.is_flag else f" {italic(_value(option))}"
    default = option.show_default if isinstance(option.show_default, str) else option.default
    shown = f" Default: {default}." if option.show_default and not option.is_flag else ""
    yield from item(names + value, (option.help or "") + shown)


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    return "|".join(option.type.choices) if isinstance(option.type, click.Choice) else option.type.name.upper()


if __name__ == "__main__":
    main()

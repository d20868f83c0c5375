"""Keep the devices as the manifests declare them: the daemon."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TypedDict, Unpack

import click

from reconciler.cli.console import error_line
from reconciler.cli.params import Duration, Listen, manifests_option, node_option, pace_options, state_dir_option
from reconciler.controller.fact_gatherer import Settings
from reconciler.daemon.run import Options, run
from reconciler.planner.orphans import PruneRules
from reconciler.telemetry.logs import catch_strays, setup

_log = logging.getLogger(__name__)


class _Given(TypedDict):
    """The values of the options."""

    manifests: Path
    listen: tuple[str, int]
    resync: float
    suspend_grace: float
    prune_delay: float
    log_format: str
    node: str
    observe: bool
    state_dir: Path


@click.command(
    epilog="""\b
Examples:
  dm-reconciler run --manifests /etc/dm-reconciler
  dm-reconciler run --manifests manifests/ --observe
  dm-reconciler run --manifests manifests/ --listen 127.0.0.1:9810 --log-format json
""",
)
@manifests_option
@click.option("--listen", type=Listen(), default="127.0.0.1:9810", show_default=True, help="For metrics and status.")
@click.option("--resync", type=Duration(), default="1s", show_default=True, help="Between two looks at everything.")
@pace_options
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for machines: one object a line.",
)
@node_option
@click.option("--observe", is_flag=True, help="Find and report, with what would be done; touch nothing.")
@state_dir_option
def command(**given: Unpack[_Given]) -> None:
    """Keep the devices as the manifests declare them: the daemon.

    Stops on SIGTERM or Ctrl-C, reads the manifests again on SIGHUP and whenever they change.
    """
    setup("json" if given["log_format"] == "json" else "text", sys.stderr)
    catch_strays()
    click.get_current_context().exit(_run(_options(given)))


def _options(given: _Given) -> Options:
    prune = PruneRules(delay=given["prune_delay"])
    return Options(
        manifests=given["manifests"],
        state_dir=given["state_dir"],
        listen=given["listen"],
        node=given["node"],
        resync=given["resync"],
        settings=Settings(grace=given["suspend_grace"], prune=prune, observe_only=given["observe"]),
    )


def _run(options: Options) -> int:
    """Runs the daemon. Why it cannot start or go on is logged like all else, for the journal and for machines."""
    try:
        return run(options)
    except Exception as error:
        told = error_line(error)
        if told is None:
            raise
        _log.critical("%s", told.line)
        return told.exit_code

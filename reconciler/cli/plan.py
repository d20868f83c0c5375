"""Show what `apply` would do and why, and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reconciler.cli.console import ExitCode, Failure, Progress, print_json, say, warnings_only
from reconciler.cli.params import complete_names, manifests_option, node_option, output_option, state_dir_option
from reconciler.cli.validate import note_unstable
from reconciler.controller.dry_run import Preview, is_pending
from reconciler.daemon.oneshot import OneShotOptions, UnknownName, plan_once
from reconciler.daemon.record_loader import ManifestsInvalid
from reconciler.model.steps import HostStep


@click.command(
    epilog="""\b
Examples:
  dm-reconciler plan --manifests /etc/dm-reconciler
  dm-reconciler plan --manifests manifests/ tank/base
  dm-reconciler plan --manifests manifests/ -o json | jq '.items[].steps'

\b
Exit codes: 0 nothing to do, 4 changes pending or something not as desired, 3 manifests invalid.
""",
)
@manifests_option
@node_option
@output_option("text", "json")
@state_dir_option
@click.argument("names", nargs=-1, metavar="[POOL[/NAME]]...", shell_complete=complete_names)
def command(*, manifests: Path, node: str, output: str, state_dir: Path, names: tuple[str, ...]) -> None:
    """Show what `apply` would do and why, and change nothing.

    Each step is shown as the command line that does the same. Works beside a running daemon.
    """
    warnings_only()
    try:
        with Progress(terminal_only=True) as progress:
            previews = plan_once(OneShotOptions(manifests, state_dir, node, names), progress.say)
    except ManifestsInvalid as invalid:
        raise Failure(str(invalid), ExitCode.INVALID) from None
    except UnknownName as unknown:
        raise Failure(str(unknown)) from None
    pending = [preview for preview in previews if is_pending(preview)]
    if output == "json":
        print_json({"items": [_item(preview) for preview in previews]})
    else:
        _print(previews, pending)
    note_unstable(preview.record for preview in previews if preview.record is not None)
    click.get_current_context().exit(ExitCode.NOT_AS_DESIRED if pending else ExitCode.FINE)


def _print(previews: list[Preview], pending: list[Preview]) -> None:
    for preview in pending:
        plan = preview.plan
        say(f"{preview.key}: {plan.reason}: {plan.condition.message}")
        for line in preview.commands():
            say(f"    $ {line}")
    quiet = len(previews) - len(pending)
    if pending:
        changes = sum(preview.is_change for preview in pending)
        say(f"{_records(changes)} would be changed, {_records(quiet)} left as they are; `apply` carries it out")
    else:
        say(f"nothing to do: {_records(quiet)} as desired")


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def _item(preview: Preview) -> dict[str, Any]:
    plan = preview.plan
    return {
        "kind": preview.key.kind,
        "metadata": {"name": str(preview.key)},
        "status": {
            "live": plan.condition.live.value,
            "ready": plan.condition.ready,
            "reason": plan.reason.value,
            "message": plan.condition.message,
        },
        "steps": [step.action for step in plan.steps if isinstance(step, HostStep)],
        "commands": preview.commands(),
    }

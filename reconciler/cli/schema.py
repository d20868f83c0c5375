"""Print the JSON Schema of manifests, for editors."""

from __future__ import annotations

from typing import Final

import click

from reconciler.cli.console import print_json

_EPILOG: Final = """\b
Examples:
  dm-reconciler schema > dm-reconciler.schema.json

\b
Editors with a YAML language server then take it from a manifest's first line:
  # yaml-language-server: $schema=dm-reconciler.schema.json
"""


@click.command("schema", epilog=_EPILOG)
def command() -> None:
    """Print the JSON Schema of manifests, for editors."""
    from reconciler.sources.manifests.explain import json_schema  # noqa: PLC0415  # not for --help

    print_json(json_schema())

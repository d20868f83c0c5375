"""What to do about each alert: taken from the rules themselves, so that it is at hand where no other page is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml
from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.models.text import TextMode

from tools.dashboard.panels import RUNBOOK, AnyPanel

TITLE: Final = "What to do"
RULES: Final = Path(__file__).resolve().parents[2] / "grafana" / "alerts" / "dm-reconciler.rules.yml"
_FIRST: Final = """\
The first question is always the same, and its answer nearly always has the next step in its message. On the host:

```sh
dm-reconciler get
dm-reconciler describe device POOL/DEVICE
dm-reconciler events POOL/DEVICE
```

| alert | after | what it means | type first |
|---|---|---|---|
"""
_LAST: Final = (
    "\nMore, with examples and when each goes away by itself: `docs/runbook.md`, which comes with the rules.\n"
)


def panels() -> list[AnyPanel]:
    content = _FIRST + "".join(map(_row, _rules())) + _LAST
    panel = text.Panel().title("What to do about each alert").mode(TextMode.MARKDOWN).content(content)
    return [panel.description("The alert rules of this project, in short.").id(RUNBOOK).height(26).span(24)]


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _row(rule: dict[str, Any]) -> str:
    said, severity = rule["annotations"], rule["labels"]["severity"]
    name = f"**{rule['alert']}**" if severity == "critical" else rule["alert"]
    return f"| {name} | {rule['for']} | {said['description']} | `{_command(said['summary'])}` |\n"


def _command(summary: str) -> str:
    """What follows the summary's last colon, for whatever pool and device: `describe device POOL/DEVICE`."""
    choices = re.sub(r"{{ if \$labels.device }}(.*?){{ else }}.*?{{ end }}", r"\1", summary)
    optional = re.sub(r"{{ if \$labels.device }}(.*?){{ end }}", r"\1", choices)
    plain = optional.replace("{{ $labels.pool }}", "POOL").replace("{{ $labels.device }}", "DEVICE")
    return plain.rpartition(": ")[2].strip()

"""Everything that the committed dashboard and the alert rules ask, as Grafana and Prometheus would ask it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.testing.prometheus import RULES, Prometheus

FILE = Path(__file__).parents[3] / "grafana" / "dashboards" / "dm-reconciler.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
ANNOTATIONS: list[dict[str, Any]] = DASHBOARD["annotations"]["list"]
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
_SELECTOR = re.compile(r"\b((?:dm_reconciler_|scrape_)\w+|up|ALERTS)\b(\{[^}]*\})?")
_OF_A_REASON = re.compile(r'(dm_reconciler_(?:pool|device)_reason)\{reason=~?"[^"]*"\}')
_IN_TEXT = re.compile(r"{{(\w+)}}")
_LABEL_VALUES = re.compile(r"label_values\((.*), (\w+)\)")


@dataclass(frozen=True, slots=True)
class Question:
    asked_by: str
    expr: str

    @property
    def selectors(self) -> list[str]:
        return ["".join(found) for found in _SELECTOR.findall(self.expr)]


def panel_questions() -> Iterator[Question]:
    for panel in PANELS:
        for target in panel.get("targets", []):
            yield Question(f"panel {panel['title']}, {target['refId']}", target["expr"])


def named_labels() -> Iterator[tuple[Question, set[str]]]:
    """Queries, with the labels that the legend, or the words of a mark, take from the answer."""
    for panel in PANELS:
        for target in panel.get("targets", []):
            question = Question(f"panel {panel['title']}, {target['refId']}", target["expr"])
            yield question, set(_IN_TEXT.findall(target.get("legendFormat", "")))
    for one, question in zip(ANNOTATIONS, annotation_questions(), strict=True):
        yield question, set(_IN_TEXT.findall(one["titleFormat"] + one["textFormat"])) | set(one["tagKeys"].split(","))


def columns() -> Iterator[tuple[str, list[Question], set[str]]]:
    """Of each table: its title, its queries, and the labels that are to be columns."""
    for panel in PANELS:
        if panel["type"] != "table":
            continue
        questions = [Question(panel["title"], target["expr"]) for target in panel["targets"]]
        (organize,) = (one["options"] for one in panel["transformations"] if one["id"] == "organize")
        yield panel["title"], questions, {name for name in organize["renameByName"] if not name.startswith("Value")}


def annotation_questions() -> Iterator[Question]:
    for annotation in ANNOTATIONS:
        yield Question(f"annotation {annotation['name']}", annotation["target"]["expr"])


def alert_questions() -> Iterator[Question]:
    """With whichever reason: a record has a series for the present one only, and most of them are never seen."""
    for rule in ALERTS:
        yield Question(f"alert {rule['alert']}", _OF_A_REASON.sub(r"\1", rule["expr"]))


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is shown, in seconds since 1970, and how often Prometheus scraped within it."""

    begin: float
    end: float
    scrape: float

    def variables(self) -> dict[str, str]:
        """As Grafana's Prometheus data source has them, at the finest resolution."""
        interval = self.scrape
        return {
            "__interval": _duration(interval),
            "__rate_interval": _duration(max(interval + self.scrape, 4 * self.scrape)),
            "__range": _duration(self.end - self.begin),
        }


def _duration(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms"


def chosen(*values: str) -> str:
    """Several values of a variable: alternatives, each taken literally."""
    return f"({'|'.join(re.escape(value).replace(chr(92), chr(92) * 2) for value in values)})"


class Asker:
    """Asks with values for the variables, over a span of time."""

    def __init__(self, prometheus: Prometheus, span: Span, **values: str) -> None:
        self._prometheus = prometheus
        self._span = span
        self._values = {**span.variables(), "instance": ".*", "pool": ".*", **values}

    def choosing(self, **values: str) -> Asker:
        """With other values for these variables."""
        return Asker(self._prometheus, self._span, **{**self._values, **values})

    def filled(self, text: str) -> str:
        """With every variable's value in its place. `$1` is none of Grafana's, but a group of `label_replace`."""
        return re.sub(r"\$([a-z_]\w*)", lambda found: self._values[found[1]], text)

    def answer(self, question: Question) -> list[Mapping[str, str]]:
        """The labels of every series that has a number at any time."""
        words = {"start": self._span.begin, "end": self._span.end, "step": f"{self._span.scrape}"}
        result = self._prometheus.get("query_range", query=self.filled(question.expr), **words)["result"]
        return [one["metric"] for one in result if any(math.isfinite(float(value)) for _, value in one["values"])]

    def without_data(self, question: Question) -> list[str]:
        """The question's selectors that no series ever fitted, as when a label is misspelt."""
        filled = [self.filled(selector) for selector in question.selectors]
        assert filled, f"{question} selects nothing"
        return [selector for selector in filled if not self._series(selector)]

    def values_of(self, variable: Mapping[str, Any]) -> set[str]:
        """What can be chosen for a variable."""
        found = _LABEL_VALUES.fullmatch(variable["query"])
        assert found, variable["query"]
        return {series[found[2]] for series in self._series(self.filled(found[1]))}

    def _series(self, selector: str) -> list[dict[str, str]]:
        words = {"match[]": selector, "start": self._span.begin, "end": self._span.end}
        found: list[dict[str, str]] = self._prometheus.get("series", **words)
        return found


def unanswered(asker: Asker) -> list[str]:
    """What has no answer, or asks for what there is not; empty if all is well. An alert need not fire."""
    shown, rules = [*panel_questions(), *annotation_questions()], list(alert_questions())
    empty = [f"{one.asked_by} is always empty: {asker.filled(one.expr)}" for one in shown if not asker.answer(one)]
    for rule in rules:
        asker.answer(rule)
    asked = [(one, selector) for one in (*shown, *rules) for selector in asker.without_data(one)]
    return [*empty, *(f"{one.asked_by} asks for what there is not: {selector}" for one, selector in asked)]


def hasty_rules(folder: Path) -> Path:
    """The rules of the tree, firing at once: a test has no half hour."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["for"]
    file = folder / "hasty.rules.yml"
    file.write_text(yaml.safe_dump(rules), encoding="utf-8")
    return file

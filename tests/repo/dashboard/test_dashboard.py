"""The committed dashboard: what the generator makes, what Grafana relies on, and what somebody on call needs."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry

from reconciler.cli.main import COMMANDS
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.telemetry.metrics import Metrics
from tests.repo.dashboard.questions import (
    ALERTS,
    ANNOTATIONS,
    DASHBOARD,
    FILE,
    PANELS,
    VARIABLES,
    annotation_questions,
    panel_questions,
)
from tools.dashboard import __main__ as program
from tools.dashboard.dashboard import text
from tools.dashboard.queries import DAY, LOOKING_BACK

COLUMNS = 24
ASKING = [panel for panel in PANELS if panel["type"] != "text"]
BY_TITLE = {panel["title"]: panel for panel in PANELS}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def each(panels: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(panel, id=panel["title"]) for panel in panels]


# The generator


def test_the_committed_file_is_what_the_generator_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "type `make dashboards`"
    assert program.main(["--check"]) == 0


def test_an_edited_file_is_told_and_written_anew(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = tmp_path / "dashboards" / "edited.json"
    monkeypatch.setattr(program, "TREE", tmp_path)
    monkeypatch.setattr(program, "FILE", edited)
    assert program.main(["--check"]) == 1
    assert "type `make dashboards`" in capsys.readouterr().err
    assert program.main([]) == 0
    assert edited.read_text(encoding="utf-8") == text()
    assert program.main(["--check"]) == 0
    assert program.main(["--write"]) == 2


def test_it_is_the_same_each_time() -> None:
    assert text() == text()


def test_grafanas_own_types_know_every_field() -> None:
    """What they do not know they would drop."""
    register_default_plugins()
    again = Dashboard.from_json(json.loads(text()))
    assert json.loads(JSONEncoder().encode(again)) == DASHBOARD


# What Grafana relies on


def test_it_is_itself_wherever_it_is_loaded() -> None:
    assert "id" not in DASHBOARD
    assert "version" not in DASHBOARD
    assert DASHBOARD["uid"] == "dm-reconciler"
    assert DASHBOARD["schemaVersion"] >= 36, "the first with references to data sources as objects"
    assert DASHBOARD["editable"] is False, "an edit belongs into the generator"


def test_it_shows_the_last_hours_and_follows() -> None:
    assert DASHBOARD["time"] == {"from": "now-6h", "to": "now"}
    assert DASHBOARD["refresh"] == "30s"
    assert {"10s", "30s"} < set(DASHBOARD["timepicker"]["refresh_intervals"])


def test_ids_and_titles_are_unique() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    names = [(panel["type"] == "row", panel["title"]) for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(set(names)) == len(names)
    for panel in ASKING:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) > 0


def test_panels_fit_and_leave_no_gap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["w"] > 0 < place["h"]
        assert place["x"] + place["w"] <= COLUMNS
        for cell in [(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in _lines(place)]:
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]
    assert len(taken) == COLUMNS * (max(y for _, y in taken) + 1)


def _lines(place: dict[str, int]) -> range:
    return range(place["y"], place["y"] + place["h"])


def test_rows_are_open_and_hold_panels() -> None:
    rows = [panel["type"] == "row" for panel in DASHBOARD["panels"]]
    assert sum(rows) == 8
    assert rows[0]
    assert not rows[-1]
    assert not any(one and other for one, other in pairwise(rows)), "an empty row"
    assert not any(panel["collapsed"] for panel in DASHBOARD["panels"] if panel["type"] == "row")


def test_nothing_names_a_data_source_of_its_own() -> None:
    sources = [found["datasource"] for found in (*ASKING, *ANNOTATIONS, *(one["target"] for one in ANNOTATIONS))]
    sources += [target["datasource"] for panel in ASKING for target in panel["targets"]]
    sources += [variable["datasource"] for variable in VARIABLES if variable["type"] == "query"]
    assert all(source == SOURCE for source in sources)
    assert [(one["type"], one["query"]) for one in VARIABLES if one["name"] == "datasource"] == [
        ("datasource", "prometheus")
    ]


def test_hosts_and_pools_can_be_chosen_several_at_a_time_and_all_are_at_first() -> None:
    choices = [variable for variable in VARIABLES if variable["type"] == "query"]
    assert [one["name"] for one in choices] == ["instance", "pool"]
    for one in choices:
        assert one["multi"] is one["includeAll"] is True
        assert one["allValue"] == ".*"
        assert one["current"]["value"] == ["$__all"]


# What it asks


def test_every_query_is_narrowed_by_what_is_chosen() -> None:
    for question in (*panel_questions(), *annotation_questions()):
        for selector in question.selectors:
            assert 'instance=~"$instance' in selector, question
            if re.match(r"dm_reconciler_(pool|device)_", selector):
                assert 'pool=~"$pool' in selector, question


def test_every_metric_there_is_is_shown_and_no_other() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    there = {f"{one.name}_total" if one.type == "counter" else one.name for one in registry.collect()}
    asked = {re.split(r"\{", selector)[0] for one in panel_questions() for selector in one.selectors}
    shown = {re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", name) for name in asked}
    assert shown - there == {"up", "scrape_duration_seconds", "ALERTS"}, "what Prometheus itself adds"
    # Tables have what a pool is declared as only as far as it is not so; sizes are for `get`.
    assert there - shown == {"dm_reconciler_pool_desired_state", "dm_reconciler_device_size_bytes"}


def test_counters_are_asked_for_their_growth_so_that_a_restart_is_no_fall() -> None:
    for question in (*panel_questions(), *annotation_questions()):
        counters = re.findall(r"(\S*)\bdm_reconciler_\w+_(?:total|bucket|sum|count)\{", question.expr)
        started = question.asked_by == "annotation Daemon started"
        assert started or all(re.search(r"(increase|rate)\($", before) for before in counters), question


def test_the_forecast_is_that_of_the_alerts() -> None:
    rules = [rule["expr"] for rule in ALERTS if rule["alert"].endswith("FillsUp")]
    assert len(rules) == 2
    for expr in rules:
        assert f"[{LOOKING_BACK}], {DAY})" in expr
    shown = [target["expr"] for target in BY_TITLE["Forecast: full in"]["targets"]]
    assert all(f"[{LOOKING_BACK}]" in expr for expr in shown)


def test_the_lines_drawn_are_where_alerts_fire() -> None:
    rules = {rule["alert"]: rule["expr"] for rule in ALERTS}
    drawn = {
        "Data used": ("DmReconcilerPoolDataNearlyFull", "0.95"),
        "Metadata used": ("DmReconcilerPoolMetadataNearlyFull", "0.9"),
        "Oldest turn that has not ended": ("DmReconcilerPassTooLong", "1800"),
    }
    for title, (alert, value) in drawn.items():
        steps = BY_TITLE[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert float(value) in [step["value"] for step in steps]
        assert re.search(rf"> {value}( |$)", rules[alert])


# What somebody on call needs


@pytest.mark.parametrize("panel", each(ASKING))
def test_a_panel_says_what_a_bad_value_means_and_what_to_type_next(panel: dict[str, Any]) -> None:
    said = panel["description"]
    assert re.search(r"\n\nNext(, [^:]+)?: .", said)
    for command in re.findall(r"`dm-reconciler ([a-z]+)", said):
        assert command in COMMANDS
    for alert in re.findall(r"DmReconciler\w+", said):
        assert alert in {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("panel", each([panel for panel in PANELS if panel["type"] in {"stat", "state-timeline"}]))
def test_a_colour_is_never_all_that_is_said(panel: dict[str, Any]) -> None:
    """A number with its title, or a word, stands on it."""
    options, defaults = panel["options"], panel["fieldConfig"]["defaults"]
    assert options.get("textMode") in {"auto", "value_and_name"} or options.get("showValue") == "auto"
    greens = [step["value"] for step in defaults["thresholds"]["steps"] if step["color"] == "green"]
    words = [word for mapping in defaults["mappings"] for word in mapping["options"].values()]
    assert words or defaults.get("unit") or "green" not in greens
    assert all(word["text"] for word in words)
    assert panel["type"] == "stat" or defaults["color"] == {"mode": "thresholds"}, "its own default is a scale"


@pytest.mark.parametrize(
    "panel", each([panel for panel in PANELS if panel["type"] in {"timeseries", "bargauge", "state-timeline"}])
)
def test_lines_have_short_names(panel: dict[str, Any]) -> None:
    assert all(0 < len(target["legendFormat"]) < 42 for target in panel["targets"])


def test_figures_have_units() -> None:
    units = {"bytes": {"bytes", "percentunit"}, "seconds": {"s", "percentunit"}}
    other = {"Forecast: full in": "s", "Leaked thin ids, and what they map": "short"}
    """Bytes over bytes a second; ids, with the bytes on an axis of their own."""
    for panel in PANELS:
        if panel["type"] not in {"timeseries", "bargauge"}:
            continue
        unit, title = panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        asked = " ".join(target["expr"] for target in panel["targets"])
        for word, fitting in units.items():
            assert f"_{word}" not in asked or unit in fitting or other.get(title) == unit, title


def test_every_reason_and_mode_has_a_colour_of_its_own_meaning() -> None:
    (reasons,) = _words("Not ready now", "Reason")
    assert reasons.keys() == {reason.value for reason in Reason}
    assert reasons["Converged"]["color"] == "green"
    assert reasons["Stuck"]["color"] == "red"
    assert reasons["Paused"]["color"] == "blue"
    modes = BY_TITLE["Mode"]["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert {number: word["text"] for number, word in modes.items()} == {
        str(number): mode.value for number, mode in enumerate(PoolMode)
    }
    for number, mode in enumerate(PoolMode):
        assert re.search(
            rf'(\(| or ){number} \* [^ ]+{{[^}}]*mode="{mode.value}"', BY_TITLE["Mode"]["targets"][0]["expr"]
        )


def _words(title: str, column: str) -> list[dict[str, Any]]:
    overrides = BY_TITLE[title]["fieldConfig"]["overrides"]
    properties = [one["properties"] for one in overrides if one["matcher"]["options"] == column]
    return [one["value"][0]["options"] for found in properties for one in found if one["id"] == "mappings"]


def test_hosts_lead_to_their_status_page_and_numbers_to_what_to_do() -> None:
    assert text().count("http://${__value.raw}/") == 4
    assert text().count("http://${__field.labels.instance}/") == 1
    (runbook,) = (panel for panel in PANELS if panel["type"] == "text")
    for panel in PANELS:
        if panel["type"] == "stat":
            (link,) = panel["links"]
            assert f"/d/{DASHBOARD['uid']}?viewPanel={runbook['id']}&" in link["url"]


def test_what_to_do_has_each_alert_with_a_command() -> None:
    (content,) = (panel["options"]["content"] for panel in PANELS if panel["type"] == "text")
    lines = re.findall(r"^\| (?:\*\*)?(DmReconciler\w+)(?:\*\*)? \|.*\| `(\w[^`{]+)` \|$", content, re.MULTILINE)
    assert [name for name, _ in lines] == [rule["alert"] for rule in ALERTS]


def test_marks_have_a_title_a_text_and_tags() -> None:
    assert [one["name"] for one in ANNOTATIONS] == ["Healed", "Healing failed", "Daemon started", "Manifests", "Alerts"]
    for one in ANNOTATIONS:
        assert one["enable"]
        assert one["titleFormat"]
        assert one["textFormat"]
        assert one["tagKeys"]

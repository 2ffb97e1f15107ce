"""The JSON of the dashboards, as Grafana reads it."""

import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.generate import plan
from dashboards.generate.annotations import ANNOTATIONS
from tests.dashboards import queries
from tests.dashboards.promql import GRAFANA

DASHBOARDS = queries.dashboards()
KINDS = {"stat", "timeseries", "table", "bargauge", "state-timeline"}
COLUMNS = 24

Json = dict[str, Any]


@pytest.fixture(params=DASHBOARDS)
def dashboard(request: pytest.FixtureRequest) -> Json:
    return DASHBOARDS[request.param]


def panels(dashboard: Json) -> list[Json]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_there_are_five_and_each_is_found_by_the_others() -> None:
    titles = [one["title"].removeprefix("Mistral / ") for one in DASHBOARDS.values()]
    assert sorted(titles) == ["Engines", "Routing", "Scaling and cost", "Service", "Tenants"]
    assert len({one["uid"] for one in DASHBOARDS.values()}) == len(DASHBOARDS)
    for one in DASHBOARDS.values():
        (link,) = one["links"]
        assert link["type"] == "dashboards" and link["includeVars"] and link["keepTime"]
        assert set(link["tags"]) <= set(one["tags"])


def test_a_dashboard_fits_into_a_config_map(dashboard: Json) -> None:
    assert len(json.dumps(dashboard)) < 250_000


def test_ids_and_titles_are_unique(dashboard: Json) -> None:
    for key in ("id", "title"):
        values = [panel[key] for panel in dashboard["panels"]]
        assert len(values) == len(set(values)), key


def test_no_panels_overlap_and_rows_are_full(dashboard: Json) -> None:
    cells: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        for y in range(at["y"], at["y"] + at["h"]):
            for x in range(at["x"], at["x"] + at["w"]):
                other = cells.setdefault((x, y), panel["title"])
                assert other == panel["title"], f"{panel['title']} lies on {other}"
    height = max(y for _, y in cells) + 1
    assert set(cells) == {(x, y) for x in range(COLUMNS) for y in range(height)}


def test_no_title_is_cut(dashboard: Json) -> None:
    for panel in panels(dashboard):
        _, _, width_px, _ = plan.rectangle(panel)
        assert plan.title_px(panel["title"]) <= width_px - plan.ICONS_PX, panel["title"]


def test_the_first_screen_says_whether_it_is_well(dashboard: Json) -> None:
    """The first row has only large figures on coloured backgrounds."""
    first = [panel for panel in panels(dashboard) if panel["gridPos"]["y"] == 1]
    assert {panel["type"] for panel in first} == {"stat"}
    assert all(panel["options"]["colorMode"] == "background" for panel in first)


def test_each_panel_says_what_it_means_and_what_to_do(dashboard: Json) -> None:
    for panel in panels(dashboard):
        means, act = panel["description"].split("\n\n**When it looks wrong:** ")
        assert len(means) > 10 and means.endswith("."), panel["title"]
        assert len(act) > 10 and act.endswith("."), panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["type"] in KINDS
        assert defaults["unit"] and defaults["noValue"], panel["title"]
        assert defaults["thresholds"]["steps"][0]["value"] is None
        assert panel["targets"], panel["title"]


def test_thresholds_rise(dashboard: Json) -> None:
    for panel in panels(dashboard):
        values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert values[1:] == sorted(values[1:]), panel["title"]


def test_alerts_that_panels_name_exist(dashboard: Json) -> None:
    known = {rule["alert"] for rule in queries.alerts()}
    for panel in panels(dashboard):
        named = set(re.findall(r"\bMistral[A-Z]\w+", panel["description"]))
        assert named <= known, panel["title"]


def test_each_variable_is_used_and_each_used_is_there(dashboard: Json) -> None:
    text = json.dumps([dashboard["panels"], dashboard["annotations"]])
    used = set(re.findall(r"\$\{?(\w+)", text)) - {name for name in GRAFANA if name[0] == "_"}
    chosen = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert used == chosen


def test_all_takes_series_without_the_label_too(dashboard: Json) -> None:
    """Outside of Kubernetes, series have no label `namespace`."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["allValue"] == ".*"


def test_rollouts_and_scaling_are_drawn_in(dashboard: Json) -> None:
    names = [annotation["name"] for annotation in dashboard["annotations"]["list"]]
    assert names == ["Rollouts", "Scaling", "Replica changes", "Alerts"]


def test_the_sdk_knows_each_key_but_some_of_the_annotations(dashboard: Json) -> None:
    """Grafana ignores keys that its schema does not have. The SDK drops those keys of annotations
    that only the Prometheus data source reads, so annotations are written without it.
    """
    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    assert {**read, "annotations": ...} == {**dashboard, "annotations": ...}
    assert dashboard["annotations"] == {"list": ANNOTATIONS}
    lost = {"step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"}
    for ours, parsed in zip(ANNOTATIONS, read["annotations"]["list"], strict=True):
        assert ours.keys() - parsed.keys() == lost
        assert {key: parsed[key] for key in parsed if key in ours} == {
            key: ours[key] for key in ours if key not in lost
        }


def test_the_plan_shows_each_panel(dashboard: Json) -> None:
    drawn = plan.svg(dashboard)
    assert drawn.count("<rect") == len(panels(dashboard)) + 1
    for panel in panels(dashboard):
        assert f">{panel['title'].replace('>', '&gt;')}</text>" in drawn

"""All properties of a panel are in the JSON that Grafana reads."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.generate.panel import Panel, Query, bars, graph, stat, table, timeline

Json = dict[str, Any]


def written(make: Callable[..., Panel], **more: Any) -> Json:
    panel = make(
        **{
            "title": "Replicas",
            "shows": "Replicas that are up.",
            "remedy": "start some.",
            "queries": [Query("sum(up)", "{{model}}"), Query("up")],
            "unit": "percentunit",
            "width": 6,
            **more,
        }
    )
    document: Json = json.loads(json.dumps(panel.build(), cls=JSONEncoder))
    return document


@pytest.mark.parametrize(
    ("make", "kind", "instant"),
    [
        (stat, "stat", True),
        (graph, "timeseries", False),
        (timeline, "state-timeline", False),
        (bars, "bargauge", True),
        (table, "table", True),
    ],
)
def test_each_kind_of_panel_has_all_that_it_was_given(
    make: Callable[..., Panel], kind: str, instant: bool
) -> None:
    panel = written(
        make,
        empty="Nothing",
        thresholds=[(0.5, "orange"), (0.9, "red")],
        below="blue",
        decimals=0,
        states=[(1, "one", "green"), (2, "two", "red")],
    )
    assert panel["type"] == kind
    assert panel["title"] == "Replicas"
    assert panel["description"] == ("Replicas that are up.\n\n**When it looks wrong:** start some.")
    assert panel["gridPos"]["w"] == 6
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["datasource"] == source
    targets = [
        (one["refId"], one["expr"], one["legendFormat"], one["instant"], one["range"])
        for one in panel["targets"]
    ]
    assert targets == [
        ("A", "sum(up)", "{{model}}", instant, not instant),
        ("B", "up", "__auto", instant, not instant),
    ]
    assert [one["datasource"] for one in panel["targets"]] == [source, source]
    defaults = panel["fieldConfig"]["defaults"]
    assert (defaults["unit"], defaults["noValue"], defaults["decimals"]) == (
        "percentunit",
        "Nothing",
        0,
    )
    assert defaults["thresholds"] == {
        "mode": "absolute",
        "steps": [
            {"value": None, "color": "blue"},
            {"value": 0.5, "color": "orange"},
            {"value": 0.9, "color": "red"},
        ],
    }
    nan, states = defaults["mappings"]
    assert nan["options"] == {"match": "nan", "result": {"text": "Nothing"}}
    assert states["options"] == {
        "1": {"text": "one", "color": "green", "index": 0},
        "2": {"text": "two", "color": "red", "index": 1},
    }


def test_a_graph_is_stacked_and_limited_only_if_it_is_asked_for() -> None:
    plain, stacked = written(graph), written(graph, stacked=True, max=1)
    plain, stacked = (one["fieldConfig"]["defaults"] for one in (plain, stacked))
    assert "max" not in plain and stacked["max"] == 1
    assert plain["min"] == stacked["min"] == 0
    assert "stacking" not in plain["custom"]
    assert stacked["custom"]["stacking"] == {"mode": "normal", "group": "A"}


def test_a_graph_draws_the_thresholds_that_it_has() -> None:
    dashed = written(graph, thresholds=[(1, "red")])["fieldConfig"]["defaults"]["custom"]
    assert dashed["thresholdsStyle"] == {"mode": "dashed"}
    assert "thresholdsStyle" not in written(graph)["fieldConfig"]["defaults"]["custom"]


def test_a_table_names_its_columns_and_hides_some() -> None:
    panel = written(table, hidden=["pod"])
    assert [one["format"] for one in panel["targets"]] == ["table", "table"]
    merge, organize = panel["transformations"]
    assert (merge["id"], organize["id"]) == ("merge", "organize")
    assert organize["options"]["excludeByName"] == {"Time": True, "pod": True}
    assert organize["options"]["renameByName"] == {
        "Value": "{{model}}",
        "Value #A": "{{model}}",
        "Value #B": "",
    }

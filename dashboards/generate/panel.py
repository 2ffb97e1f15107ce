"""Panels in the style of these dashboards, built with Grafana's SDK."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import NamedTuple, NotRequired, TypedDict, TypeVar, Unpack

from grafana_foundation_sdk.builders import common, prometheus
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.bargauge import Panel as BarGauge
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import common as style
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = Stat | TimeSeries | StateTimeline | BarGauge | Table
Kind = TypeVar("Kind", Stat, TimeSeries, StateTimeline, BarGauge, Table)

DATASOURCE = models.DataSourceRef("prometheus", "${datasource}")
_LAST_VALUE = ["lastNotNull"]


class Query(NamedTuple):
    expr: str
    legend: str = ""


class About(TypedDict):
    """The properties that every kind of panel has."""

    title: str
    shows: str
    """One or more sentences on what the panel shows."""
    remedy: str
    """What to do when the panel looks wrong."""
    queries: Sequence[Query]
    unit: str
    """The unit's identifier in Grafana."""
    width: int
    """The width in columns, of which a dashboard has 24."""
    empty: NotRequired[str]
    """The text that stands where there is no data; "No traffic" unless given."""
    thresholds: NotRequired[Sequence[tuple[float, str]]]
    """Pairs of a value and the colour from that value upwards."""
    below: NotRequired[str]
    """The colour below the first threshold; green unless given."""
    decimals: NotRequired[int]
    states: NotRequired[Sequence[tuple[float, str, str]]]
    """Values that are shown as a text in a colour."""


def stat(**about: Unpack[About]) -> Stat:
    """The current value, on a background in the threshold's colour."""
    named = any(query.legend for query in about["queries"])
    return (
        _panel(Stat(), about, instant=True)
        .color_mode(style.BigValueColorMode.BACKGROUND)
        .graph_mode(style.BigValueGraphMode.NONE)
        .justify_mode(style.BigValueJustifyMode.CENTER)
        .text_mode(style.BigValueTextMode.AUTO if named else style.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(_LAST_VALUE))
    )


def graph(*, stacked: bool = False, max: float | None = None, **about: Unpack[About]) -> TimeSeries:
    """Values over time, with thresholds as dashed lines."""
    legend = common.VizLegendOptions().show_legend(True).calcs(_LAST_VALUE)
    tooltip = common.VizTooltipOptions().mode(style.TooltipDisplayMode.MULTI)
    panel = (
        _panel(TimeSeries(), about, instant=False)
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .min(0)
        .line_width(1 if stacked else 2)
        .fill_opacity(40 if stacked else 8)
        .show_points(style.VisibilityMode.NEVER)
        .legend(legend)
        .tooltip(tooltip.sort(style.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(style.StackingMode.NORMAL).group("A"))
    if "thresholds" in about:
        dashed = style.GraphThresholdsStyleMode.DASHED
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(dashed))
    return panel if max is None else panel.max(max)


def timeline(**about: Unpack[About]) -> StateTimeline:
    """States over time; `states` names them."""
    return (
        _panel(StateTimeline(), about, instant=False)
        .line_width(0)
        .fill_opacity(80)
        .row_height(0.8)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def bars(**about: Unpack[About]) -> BarGauge:
    """The current value of each series as a horizontal bar, in the order of the query."""
    return (
        _panel(BarGauge(), about, instant=True)
        .min(0)
        .orientation(style.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(_LAST_VALUE))
    )


def table(*, hidden: Sequence[str] = (), **about: Unpack[About]) -> Table:
    """A column for each label but those in `hidden`, and one for each query under its legend."""
    queries = about["queries"]
    names = {"Value": queries[0].legend} | {
        f"Value #{ref}": query.legend for ref, query in zip(ascii_uppercase, queries, strict=False)
    }
    columns = {
        "excludeByName": dict.fromkeys(["Time", *hidden], True),
        "indexByName": {},
        "renameByName": names,
    }
    return (
        _panel(Table(), about, instant=True, table=True)
        .filterable(False)
        .with_transformation(models.DataTransformerConfig("merge", options={}))
        .with_transformation(models.DataTransformerConfig("organize", options=columns))
    )


def _panel(panel: Kind, about: About, *, instant: bool, table: bool = False) -> Kind:
    empty = about.get("empty", "No traffic")
    steps = [(None, about.get("below", "green")), *about.get("thresholds", ())]
    thresholds = builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    if "decimals" in about:
        panel.decimals(about["decimals"])
    return (
        panel.title(about["title"])
        .description(f"{about['shows']}\n\n**When it looks wrong:** {about['remedy']}")
        .datasource(DATASOURCE)
        .span(about["width"])
        .unit(about["unit"])
        .no_value(empty)
        .mappings(_mappings(empty, about.get("states", ())))
        .thresholds(thresholds.steps([models.Threshold(value, color) for value, color in steps]))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .targets(
            [
                _target(ref, query, instant, table)
                for ref, query in zip(ascii_uppercase, about["queries"], strict=False)
            ]
        )
    )


def _mappings(empty: str, states: Sequence[tuple[float, str, str]]) -> list[models.ValueMapping]:
    nan = models.DashboardSpecialValueMapOptions(
        models.SpecialValueMatch.NA_N, models.ValueMappingResult(empty)
    )
    texts = {
        f"{value:g}": models.ValueMappingResult(text, color, index=index)
        for index, (value, text, color) in enumerate(states)
    }
    return [models.SpecialValueMap(nan), *([models.ValueMap(texts)] if texts else [])]


def _target(ref: str, query: Query, instant: bool, table: bool) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .ref_id(ref)
        .datasource(DATASOURCE)
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
    )
    if table:
        target.format(PromQueryFormat.TABLE)
    return target.instant() if instant else target.range()

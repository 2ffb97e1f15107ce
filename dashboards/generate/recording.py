"""Recording rules: the share of bad events of each objective, over each window."""

from typing import Any

from dashboards.generate.slo import (
    BUDGET_WINDOW,
    BURN_WINDOWS,
    OBJECTIVES,
    Objective,
    bad_events,
    error_ratio,
)

Rule = dict[str, Any]

_LONG = ("1d", "3d", BUDGET_WINDOW)
"""These windows change slowly and cost most, so they are evaluated less often: every two minutes,
because Prometheus ignores samples older than five minutes."""


def groups() -> list[dict[str, Any]]:
    windows = list(
        dict.fromkeys(
            [name for window in BURN_WINDOWS for name in (window.short, window.long)]
            + [BUDGET_WINDOW]
        )
    )
    return [
        _group("mistral-slo", "30s", [name for name in windows if name not in _LONG]),
        _group("mistral-slo-long", "2m", [name for name in windows if name in _LONG]),
    ]


def _group(name: str, interval: str, windows: list[str]) -> dict[str, Any]:
    counted = {window.long for window in BURN_WINDOWS}
    rules: list[Rule] = []
    for objective in OBJECTIVES:
        for window in windows:
            rules.append(_ratio(objective, window))
            if window in counted:
                rules.append(_bad_events(objective, window))
    return {"name": name, "interval": interval, "rules": rules}


def _ratio(objective: Objective, window: str) -> Rule:
    bad, total = (text.format(window=window) for text in (objective.bad, objective.total))
    return {
        "record": error_ratio(window),
        # Without traffic there is no ratio, and not NaN.
        "expr": f"({bad})\n/ ({total} > 0)",
        "labels": {"slo": objective.name},
    }


def _bad_events(objective: Objective, window: str) -> Rule:
    counted = objective.bad.format(window=window).replace("rate(", "increase(")
    return {
        "record": bad_events(window),
        "expr": counted,
        "labels": {"slo": objective.name},
    }

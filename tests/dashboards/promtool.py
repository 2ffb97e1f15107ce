"""Runs promtool, Prometheus' own tool, which evaluates rules in simulated time."""

import functools
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards.queries import RULES

NEEDED = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: `apt-get install prometheus` has it",
)


def check(queries: Iterable[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Lets promtool parse each query."""
    rules = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries)]
    path = folder / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    return _run("check", "rules", path)


def firing(
    series: Mapping[str, str],
    at: str,
    interval: str,
    folder: Path,
    want: set[str],
    may: Collection[str] = (),
) -> str:
    """What promtool prints if other alerts than `want` (each `name severity`) fire at that time;
    empty if exactly these fire. `series` have values in promtool's notation, one each `interval`.
    Alerts with the names in `may` may fire or not.
    """
    expected = [
        {
            "labels": f'{{alertname="{alert.split()[0]}",severity="{alert.split()[1]}"}}',
            "value": 1,
        }
        for alert in sorted(want)
    ]
    query = (
        'group by (alertname, severity) (ALERTS{alertstate="firing",service="mistral-serve",'
        f'alertname!~"{"|".join(may)}"}})'
    )
    test: dict[str, Any] = {
        "interval": interval,
        "input_series": [{"series": key, "values": value} for key, value in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": at, "exp_samples": expected}],
    }
    path = folder / "test.yaml"
    document = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": interval,
        "group_eval_order": _recording_first(),
        "tests": [test],
    }
    path.write_text(yaml.safe_dump(document))
    result = _run("test", "rules", path)
    return "" if result.returncode == 0 else result.stdout + result.stderr


@functools.cache
def _recording_first() -> list[str]:
    """The names of all groups. Recording rules come first, so that alerts find fresh series."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    groups.sort(key=lambda group: "record" not in group["rules"][0])
    return [group["name"] for group in groups]


def _run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    # A fifth of its time would be Go's collection of garbage.
    environment = os.environ | {"GOGC": "400"}
    return subprocess.run(
        ["promtool", *args],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )

"""The report of a run: a line for each result, or JSON."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import typer

from .model import Model
from .runner import Result

_COLOURS = {"pass": "green", "fail": "red", "skip": "yellow"}
_STATUS_WIDTH, _THEME_WIDTH = 6, 14


def line(result: Result) -> str:
    """One result as a row of the table."""
    status = typer.style(result.status.ljust(_STATUS_WIDTH), fg=_COLOURS[result.status])
    text = f"{status}{result.check.theme.ljust(_THEME_WIDTH)}{result.check.name}"
    return f"{text}: {result.reason}" if result.reason else text


def summary(results: Iterable[Result]) -> str:
    """The last line: the number of checks that passed, failed and were skipped."""
    counts = Counter(result.status for result in results)
    return f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped"


def as_json(url: str, model: Model, results: Iterable[Result]) -> str:
    """The whole run as JSON, for other programs."""
    rows: list[dict[str, Any]] = [
        {
            "theme": result.check.theme,
            "check": result.check.name,
            "meaning": result.check.meaning,
            "status": result.status,
            "reason": result.reason,
            "duration_s": round(result.duration_s, 3),
        }
        for result in results
    ]
    return json.dumps(
        {
            "url": url,
            "model": model.id,
            "family": model.family.name,
            "profile": "tiny" if model.tiny else "real",
            "passed": sum(row["status"] == "pass" for row in rows),
            "failed": sum(row["status"] == "fail" for row in rows),
            "skipped": sum(row["status"] == "skip" for row in rows),
            "results": rows,
        },
        indent=2,
        ensure_ascii=False,
    )

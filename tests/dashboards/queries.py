"""All queries in dashboards/, each with the place where it stands."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards"
RULES = sorted((FOLDER / "rules").glob("*.yaml"))
RUNBOOKS = sorted((FOLDER / "runbooks").glob("*.md"))

Placed = tuple[str, str]
"""The place of a query, and the query."""

_LABEL_VALUES = re.compile(r"label_values\((.*), \w+\)")
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def of_panels() -> Iterator[Placed]:
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}: {target['refId']}", target["expr"]


def of_variables() -> Iterator[Placed]:
    """The series whose label values the variables offer."""
    for name, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                match = _LABEL_VALUES.fullmatch(variable["query"]["query"])
                assert match is not None, variable
                yield f"{name}: ${variable['name']}", match[1]


def of_annotations() -> Iterator[Placed]:
    for name, dashboard in dashboards().items():
        for annotation in dashboard["annotations"]["list"]:
            yield f"{name}: {annotation['name']}", annotation["expr"]


def of_rules() -> Iterator[Placed]:
    for rule in rules():
        labels = rule["labels"]
        kind = labels.get("slo") or labels["severity"]
        yield f"{rule.get('alert') or rule['record']}: {kind}", rule["expr"]


def of_runbooks() -> Iterator[Placed]:
    for path in RUNBOOKS:
        for block in blocks(path.read_text(), "promql"):
            for number, query in enumerate(block.split("\n\n")):
                yield f"{path.name}: {number}", query.strip()


def everything() -> list[Placed]:
    return [*of_panels(), *of_variables(), *of_annotations(), *of_rules(), *of_runbooks()]


def blocks(page: str, language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(page) if found == language]

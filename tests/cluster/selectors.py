"""Label and field selectors, as clients write them in a query and as manifests hold them."""

import re
from typing import Any

from tests.cluster.errors import bad_request

Object = dict[str, Any]

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<how>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^=!]+?)\s*(?P<how>==?|!=)\s*(?P<values>\S*)$")


def labels_match(selector: str, labels: dict[str, str]) -> bool:
    """A selector as in `kubectl -l`."""
    return all(_requirement(part, labels) for part in _parts(selector))


def _parts(selector: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _requirement(part: str, labels: dict[str, str]) -> bool:
    if found := _SET.match(part):
        values = {value.strip() for value in found["values"].split(",")}
        return (labels.get(found["key"]) in values) == (found["how"] == "in")
    if found := _EQUAL.match(part):
        equal = labels.get(found["key"].strip()) == found["values"]
        return not equal if found["how"] == "!=" else equal
    return part[1:] not in labels if part.startswith("!") else part in labels


def fields_match(selector: str, obj: Object) -> bool:
    """A selector as in `kubectl --field-selector`."""
    for part in _parts(selector):
        found = _EQUAL.match(part)
        if found is None:
            raise bad_request(f"invalid field selector: {part}")
        value: Any = obj
        for name in found["key"].strip().split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if (str(value or "") == found["values"]) != (found["how"] != "!="):
            return False
    return True


def label_selector_matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """A selector as in a manifest: nothing matches none, an empty one matches all."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression(each, labels) for each in selector.get("matchExpressions", ()))


def _expression(expression: Object, labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", ())
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None

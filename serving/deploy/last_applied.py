"""What was applied to an object, out of the object itself: to apply it again."""

import json
from typing import Any

from serving.deploy.kube import MANAGER

Object = dict[str, Any]


def last_applied(live: Object) -> Object | None:
    """The manifest that was last applied on the server's side; None if none was."""
    for entry in live["metadata"].get("managedFields") or ():
        applied = (entry["manager"], entry["operation"]) == (MANAGER, "Apply")
        if applied and not entry.get("subresource"):
            manifest: Object = extracted(live, entry.get("fieldsV1") or {})
            metadata = manifest.setdefault("metadata", {})
            for key in ("name", "namespace"):
                if key in live["metadata"]:
                    metadata[key] = live["metadata"][key]
            return {key: live[key] for key in ("apiVersion", "kind")} | manifest
    return None


def extracted(value: Any, fields: Object) -> Any:
    """The part of a value that `fields`, as managedFields has them, own."""
    if not fields:
        return value
    if isinstance(value, dict):
        return {
            key: extracted(each, fields[f"f:{key}"])
            for key, each in value.items()
            if f"f:{key}" in fields
        }
    if isinstance(value, list):
        owned = [(_selector(key), sub) for key, sub in fields.items() if key != "."]
        return [extracted(each, sub) for each in value for selector, sub in owned if selector(each)]
    return value


def _selector(key: str) -> Any:
    kind, _, text = key.partition(":")
    wanted = json.loads(text)
    if kind == "k":
        return lambda each: all(each.get(name) == value for name, value in wanted.items())
    return lambda each: each == wanted

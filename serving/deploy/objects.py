"""Kubernetes' objects."""

from typing import Any

Object = dict[str, Any]
"""One as its manifest and the API server have it."""


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def condition(obj: Object, kind: str) -> Object:
    """The condition of that type in an object's status; empty without it."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


def is_ready(obj: Object) -> bool:
    """Whether a pod or a node is ready."""
    return bool(condition(obj, "Ready").get("status") == "True")


def is_ending(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]

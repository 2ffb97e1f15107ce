"""The patches that clients send: JSON merge, JSON, and Kubernetes' strategic merge."""

from typing import Any

from tests.cluster.errors import bad_request
from tests.cluster.fields import child
from tests.cluster.schemas import Schema, resolve
from tests.cluster.store import copied

_DIRECTIVES = ("$patch", "$retainKeys", "$setElementOrder/", "$deleteFromPrimitiveList/")


def merge(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, inner in patch.items():
        if inner is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), inner)
    return merged


def json_patch(value: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, without `move` and `copy`."""
    value = copied(value)
    for operation in operations:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        target = value
        try:
            for part in parents:
                target = target[int(part)] if isinstance(target, list) else target[part]
            _json_operation(target, last, operation)
        except (KeyError, IndexError, ValueError) as error:
            raise bad_request(f"the JSON patch does not apply: {operation['path']}") from error
    return value


def _json_operation(target: Any, last: str, operation: dict[str, Any]) -> None:
    position: Any = last
    if isinstance(target, list):
        position = len(target) if last == "-" else int(last)
    match operation["op"]:
        case "add" if isinstance(target, list):
            target.insert(position, operation["value"])
        case "add":
            target[position] = operation["value"]
        case "replace":
            target[position] = operation["value"]
        case "remove":
            del target[position]
        case "test":
            if target[position] != operation["value"]:
                raise ValueError(last)
        case other:
            raise bad_request(f"JSON patch operation {other} is not known here")


def strategic(schema: Schema, value: Any, patch: Any) -> Any:
    """Kubernetes' strategic merge: lists with a merge key are merged item by item."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {name: inner for name, inner in patch.items() if name != "$patch"}
    merged = dict(value) if isinstance(value, dict) else {}
    if "$retainKeys" in patch:
        merged = {name: inner for name, inner in merged.items() if name in patch["$retainKeys"]}
    for name, inner in patch.items():
        if name.startswith(_DIRECTIVES):
            continue
        if inner is None:
            merged.pop(name, None)
            continue
        below = resolve(child(schema, name) or {})
        if isinstance(inner, list):
            order = patch.get(f"$setElementOrder/{name}")
            # The field's own schema says how it merges, not the type that it refers to.
            merged[name] = _merge_list(below, merged.get(name) or [], inner, order)
        else:
            merged[name] = strategic(below, merged.get(name), inner)
    for name, gone in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            merged[field] = [item for item in merged.get(field, []) if item not in gone]
    # A list in which nothing changed but the order.
    for name, order in patch.items():
        if name.startswith("$setElementOrder/") and name.partition("/")[2] not in patch:
            field = name.partition("/")[2]
            below = resolve(child(schema, field) or {})
            merged[field] = _merge_list(below, merged.get(field) or [], [], order)
    return merged


def _merge_list(schema: Schema, live: list[Any], patch: list[Any], order: Any) -> list[Any]:
    if "merge" not in schema.get("x-kubernetes-patch-strategy", "").split(","):
        return patch
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        merged = [*live, *(item for item in patch if item not in live)]
        return _ordered(merged, order or [], lambda item: item)
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    merged = list(live)
    for item in patch:
        at = next((i for i, each in enumerate(merged) if each.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del merged[at]
        elif at is None:
            merged.append(strategic(schema["items"], {}, item))
        else:
            merged[at] = strategic(schema["items"], merged[at], item)
    return _ordered(merged, [item[key] for item in order or []], lambda item: item.get(key))


def _ordered(items: list[Any], order: list[Any], key: Any) -> list[Any]:
    """The items in the order that the patch states; others keep their place behind."""
    place = {value: index for index, value in enumerate(order)}
    return sorted(items, key=lambda item: place.get(key(item), len(place)))

"""Server-side apply: a merge by who owns which field, as `metadata.managedFields` keeps it.

A field is the path to a leaf, or to the identity of a list's item. Paths are tuples of
Kubernetes' own names for their parts: `f:name`, `k:{"port":80}`, `v:"x"`, and `.` for the item.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.cluster.errors import ApiError
from tests.cluster.fields import child
from tests.cluster.schemas import Object, Schema, resolve
from tests.cluster.validation import item_key

Path = tuple[str, ...]
Owners = dict[tuple[str, str], set[Path]]
"""The fields of each manager and operation ("Apply" or "Update")."""

_ABSENT = object()
_UNOWNED = {("f:apiVersion",), ("f:kind",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "managedFields", "selfLink", "deletionTimestamp",
    )
}  # fmt: skip


def fields_of(schema: Schema, value: Any) -> dict[Path, Any]:
    """Each field that can have an owner, with its value."""
    return {
        path: inner
        for path, inner in _fields(schema, value, ())
        if path[:1] not in _UNOWNED and path[:2] not in _UNOWNED
    }


def _fields(schema: Schema, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    schema = resolve(schema)
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        for name, inner in value.items():
            yield from _fields(child(schema, name) or {}, inner, (*path, f"f:{name}"))
        return
    if isinstance(value, list) and _part(schema, value) is not None:
        for item in value:
            below = (*path, _part(schema, [item]) or "")
            yield (*below, "."), True
            if isinstance(item, dict):
                yield from _fields(schema["items"], item, below)
        return
    yield path, value


def _part(schema: Schema, items: list[Any]) -> str | None:
    """The name of the first item within a list that is a map or a set; None for atomic ones."""
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("map", "set"):
        return None
    key = item_key(schema, items[0]) if items else None
    return f"{'k' if kind == 'map' else 'v'}:{json.dumps(key, separators=(',', ':'))}"


def merged(schema: Schema, live: Any, applied: Any) -> Any:
    """`live` with everything that `applied` says."""
    schema = resolve(schema)
    if isinstance(live, dict) and isinstance(applied, dict):
        if schema.get("x-kubernetes-map-type") == "atomic":
            return applied
        return live | {
            name: merged(child(schema, name) or {}, live.get(name), inner)
            for name, inner in applied.items()
        }
    if isinstance(live, list) and isinstance(applied, list):
        if schema.get("x-kubernetes-list-type") not in ("map", "set"):
            return applied
        by_part = {_part(schema, [item]): item for item in live}
        for item in applied:
            part = _part(schema, [item])
            by_part[part] = merged(schema["items"], by_part.get(part), item)
        return list(by_part.values())
    return applied


def without(schema: Schema, value: Any, gone: set[Path], path: Path = ()) -> Any:
    """`value` without those fields."""
    schema = resolve(schema)
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            below = (*path, f"f:{name}")
            if below in gone:
                continue
            left = without(child(schema, name) or {}, inner, gone, below)
            emptied = left in ({}, []) and inner not in ({}, [])
            if not emptied:
                kept[name] = left
        return kept
    if isinstance(value, list) and _part(schema, value) is not None:
        items = []
        for item in value:
            below = (*path, _part(schema, [item]) or "")
            if (*below, ".") not in gone:
                items.append(without(schema["items"], item, gone, below))
        return items
    return value


def apply(schema: Schema, live: Object, applied: Object, manager: str, *, force: bool) -> Object:
    """`live` after this manager's apply, with the new `managedFields`; ApiError on a conflict."""
    owners = read_owners(live)
    mine = set(fields_of(schema, applied))
    before = owners.pop((manager, "Apply"), set())
    new = merged(schema, live, applied)
    old_values, new_values = fields_of(schema, live), fields_of(schema, new)
    conflicts = {
        (other, field)
        for (other, _), fields in owners.items()
        for field in fields & mine
        if old_values.get(field) != new_values.get(field)
    }
    if conflicts and not force:
        raise _conflict(conflicts)
    for fields in owners.values():
        fields -= {field for _, field in conflicts}
    others: set[Path] = set().union(*owners.values())
    new = without(schema, new, before - mine - others)
    owners[manager, "Apply"] = mine
    return with_owners(new, owners)


def updated(schema: Schema, old: Object | None, new: Object, manager: str) -> Object:
    """`new` with what changed in it owned by this manager."""
    owners = read_owners(new if old is None else old)
    before = {} if old is None else fields_of(schema, old)
    now = fields_of(schema, new)
    changed = {field for field, value in now.items() if before.get(field, _ABSENT) != value}
    for fields in owners.values():
        fields &= now.keys() - changed
    if changed:
        owners.setdefault((manager, "Update"), set()).update(changed)
    return with_owners(new, owners)


def read_owners(obj: Object) -> Owners:
    return {
        (entry["manager"], entry["operation"]): set(_unpacked(entry.get("fieldsV1", {})))
        for entry in obj["metadata"].get("managedFields", ())
    }


def with_owners(obj: Object, owners: Owners) -> Object:
    entries = [
        {
            "manager": manager,
            "operation": operation,
            "apiVersion": obj["apiVersion"],
            "fieldsType": "FieldsV1",
            "fieldsV1": _packed(fields),
        }
        for (manager, operation), fields in sorted(owners.items())
        if fields
    ]
    return obj | {"metadata": obj["metadata"] | {"managedFields": entries}}


def _packed(paths: set[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
    return tree


def _unpacked(tree: Object, path: Path = ()) -> Iterator[Path]:
    for part, below in tree.items():
        if below:
            yield from _unpacked(below, (*path, part))
        else:
            yield (*path, part)


def _conflict(conflicts: set[tuple[str, Path]]) -> ApiError:
    lines = sorted((f'conflict with "{other}"', _shown(field)) for other, field in conflicts)
    causes = [
        {"reason": "FieldManagerConflict", "message": said, "field": field} for said, field in lines
    ]
    count = f"{len(lines)} conflict" + "s" * (len(lines) > 1)
    message = f"Apply failed with {count}: " + ", ".join(f"{a}: {b}" for a, b in lines)
    return ApiError(409, "Conflict", message, {"causes": causes})


def _shown(path: Path) -> str:
    shown = ""
    for part in path:
        shown += f".{part[2:]}" if part.startswith("f:") else f"[{part[2:]}]" if part != "." else ""
    return shown

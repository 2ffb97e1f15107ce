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

_UNOWNED = {("f:apiVersion",), ("f:kind",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "managedFields", "selfLink", "deletionTimestamp",
    )
}  # fmt: skip


def fields_of(schema: Schema, value: Any, path: Path = ()) -> set[Path]:
    return {found for found in _fields(schema, value, path) if found[:2] not in _UNOWNED
            and found[:1] not in _UNOWNED}  # fmt: skip


def _fields(schema: Schema, value: Any, path: Path) -> Iterator[Path]:
    schema = resolve(schema)
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        for name, inner in value.items():
            yield from _fields(child(schema, name) or {}, inner, (*path, f"f:{name}"))
        return
    if isinstance(value, list) and _part(schema, value) is not None:
        for item in value:
            below = (*path, _part(schema, [item]) or "")
            yield (*below, ".")
            if isinstance(item, dict):
                yield from _fields(schema["items"], item, below)
        return
    yield path


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
    mine = fields_of(schema, applied)
    before = owners.pop((manager, "Apply"), set())
    new = merged(schema, live, applied)
    conflicts = {
        (other, field)
        for (other, _), fields in owners.items()
        for field in fields & mine
        if at(schema, live, field) != at(schema, new, field)
    }
    if conflicts and not force:
        raise _conflict(conflicts)
    for _, fields in owners.items():
        fields -= {field for _, field in conflicts}
    others = set().union(*owners.values())
    new = without(schema, new, before - mine - others)
    owners[manager, "Apply"] = mine
    return with_owners(new, owners)


def updated(schema: Schema, old: Object | None, new: Object, manager: str) -> Object:
    """`new` with what changed in it owned by this manager."""
    owners = read_owners(new if old is None else old)
    now = fields_of(schema, new)
    changed = {
        field for field in now if old is None or at(schema, old, field) != at(schema, new, field)
    }
    for fields in owners.values():
        fields &= now - changed
    if changed:
        owners.setdefault((manager, "Update"), set()).update(changed)
    return with_owners(new, owners)


def at(schema: Schema, value: Any, path: Path) -> Any:
    """What `value` has at that path; None where it has nothing."""
    for part in path:
        schema = resolve(schema)
        if part.startswith("f:") and isinstance(value, dict):
            name = part.removeprefix("f:")
            schema, value = child(schema, name) or {}, value.get(name)
        elif part == ".":
            return value is not None
        elif isinstance(value, list):
            value = next((item for item in value if _part(schema, [item]) == part), None)
            schema = schema.get("items", {})
        else:
            return None
    return value


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

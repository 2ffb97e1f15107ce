"""A schema's view of a value: the fields that it does not know, its defaults, its null values."""

from typing import Any

from tests.cluster.schemas import Schema, resolve


def pruned(schema: Schema, value: Any, path: str = "") -> tuple[Any, list[str]]:
    """The value without the fields that the schema lacks, and the paths of those."""
    schema = resolve(schema)
    unknown: list[str] = []
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            where = f"{path}.{name}" if path else name
            below = child(schema, name)
            if below is None:
                unknown.append(where)
                continue
            kept[name], more = pruned(below, inner, where)
            unknown += more
        return kept, unknown
    if isinstance(value, list) and "items" in schema:
        items = []
        for index, inner in enumerate(value):
            item, more = pruned(schema["items"], inner, f"{path}[{index}]")
            items.append(item)
            unknown += more
        return items, unknown
    return value, unknown


def child(schema: Schema, name: str) -> Schema | None:
    """The schema of a field of an object; None where an object may not have it."""
    schema = resolve(schema)
    properties = schema.get("properties", {})
    if name in properties:
        found: Schema = properties[name]
        return found
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return additional
    free = schema.get("x-kubernetes-preserve-unknown-fields") or additional is True
    # A built-in type without properties (a raw extension) takes anything, and so does no schema.
    if free or ("properties" not in schema and "x-kubernetes-list-type" not in schema):
        return {}
    return None


def with_defaults(schema: Schema, value: Any) -> Any:
    """The value with the schema's defaults where it is silent."""
    schema = resolve(schema)
    if isinstance(value, dict):
        filled = dict(value)
        for name, below in schema.get("properties", {}).items():
            if name not in filled and "default" in below:
                filled[name] = below["default"]
        return {
            name: with_defaults(child(schema, name) or {}, inner) for name, inner in filled.items()
        }
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), inner) for inner in value]
    return value


def without_nulls(value: Any) -> Any:
    """The value without fields that are null: the built-in kinds read these as absent."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


def field_path(parts: Any) -> str:
    """`spec.ports[0].name` of ("spec", "ports", 0, "name")."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path

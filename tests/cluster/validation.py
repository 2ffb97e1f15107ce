"""An object against its schema: types, bounds, required fields, keys of lists, CEL."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from tests.cluster import cel
from tests.cluster.errors import Cause, duplicate, invalid_value, required
from tests.cluster.fields import child, field_path
from tests.cluster.schemas import Kind, Object, Schema, definitions, resolve

TYPE_INVALID = "FieldValueTypeInvalid"


def causes(kind: Kind, new: Object, old: Object | None = None) -> list[Cause]:
    """What is wrong with `new`, by its schema alone, where it is to replace `old`."""
    of_server = {"uid", "resourceVersion", "creationTimestamp", "managedFields"}
    metadata = {name: each for name, each in new["metadata"].items() if name not in of_server}
    found = _schema_causes(kind, json.dumps(new | {"metadata": metadata}))
    return [*found] or [*_repeated(kind.schema, new), *cel.violations(kind.schema, new, old)]


@functools.lru_cache(maxsize=1024)
def _schema_causes(kind: Kind, written: str) -> tuple[Cause, ...]:
    """Finds what is wrong with an object in JSON, for 10 ms; tests write equal ones many times."""
    found = _validator(kind).iter_errors(json.loads(written))
    return tuple(cause for error in found for cause in _causes(error))


def status_causes(kind: Kind, new: Object) -> list[Cause]:
    """What is wrong with the status of `new`, where nothing else has changed."""
    found = _status_validator(kind).iter_errors(new["status"]) if "status" in new else ()
    return [cause for error in found for cause in _causes(error)]


def _types(
    validator: Any, types: Any, instance: Any, schema: Schema
) -> Iterator[jsonschema.ValidationError]:
    """JSON schema's `type`, with OpenAPI's `nullable`."""
    if instance is None and schema.get("nullable"):
        return
    wanted = [types] if isinstance(types, str) else types
    if not any(validator.is_type(instance, each) for each in wanted):
        yield jsonschema.ValidationError("/".join(each for each in wanted if each != "null"))


_Validator: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"type": _types})


@functools.cache
def _validator(kind: Kind) -> Any:
    return _Validator({**kind.schema, "$defs": definitions()})


@functools.cache
def _status_validator(kind: Kind) -> Any:
    return _Validator({**(child(kind.schema, "status") or {}), "$defs": definitions()})


def _causes(error: jsonschema.ValidationError) -> Iterator[Cause]:
    path = field_path(error.absolute_path)
    value = error.instance
    shown = {dict: "object", list: "array", type(None): "null"}.get(type(value), value)
    match error.validator:
        case "required":
            yield required(field_path([*error.absolute_path, error.message.split("'")[1]]))
        case "type" | "oneOf" | "anyOf":
            names = error.message if error.validator == "type" else "integer or string"
            why = f"{path} in body must be of type {names}"
            yield Cause(path, TYPE_INVALID, f'Invalid value: "{shown}": {why}')
        case "enum":
            allowed = ", ".join(f'"{each}"' for each in error.validator_value if each is not None)
            why = f'Unsupported value: "{shown}": supported values: {allowed}'
            yield Cause(path, "FieldValueNotSupported", why)
        case _:
            yield invalid_value(path, shown, error.message)


def _repeated(schema: Schema, value: Any, path: str = "") -> Iterator[Cause]:
    """Items of a list that is a map or a set, with a key that another item has."""
    schema = resolve(schema)
    if isinstance(value, dict):
        for name, inner in value.items():
            below = child(schema, name)
            if below:
                yield from _repeated(below, inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        seen: list[Any] = []
        for index, inner in enumerate(value):
            where = f"{path}[{index}]"
            key = item_key(schema, inner)
            if key is not None and key in seen:
                yield duplicate(where, inner if not isinstance(inner, dict) else str(key))
            seen.append(key)
            yield from _repeated(schema.get("items", {}), inner, where)


def item_key(schema: Schema, item: Any) -> Any:
    """What tells this item of a list from the others; None where the list is atomic."""
    schema = resolve(schema)
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return item
        case "map":
            fields = resolve(schema["items"]).get("properties", {})
            return {
                key: item.get(key, fields.get(key, {}).get("default"))
                for key in schema["x-kubernetes-list-map-keys"]
            }
    return None

"""Sections of YAML files, with errors that name the field and what is allowed."""

from collections.abc import Iterator
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

_LIST = "Input should be a list"
_MAPPING = "Input should be a mapping"
_IN_WORDS_OF_YAML = {
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "dataclass_type": _MAPPING,
}
"""What pydantic says in Python's words."""


class Section(BaseModel):
    """A part of a YAML file: immutable, without unknown fields, and with finite numbers. A field
    has no text that is empty, and no number that is true or false."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _says_something(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            raise ValueError("an empty text says nothing; leave it out or give it a value")
        types = set(_types_in(cls.model_fields[str(info.field_name)].annotation))
        if isinstance(value, bool) and types & {int, float} and not types & {bool, Any}:
            raise ValueError(f"Input should be a number (got {_shown(value)})")
        return value


class NotYamlError(Exception):
    """The text is not YAML; the message says where and why."""


class DistinctKeys(yaml.constructor.SafeConstructor):
    """Refuses a duplicate key, of which YAML readers silently take the last."""

    def construct_document(self, node: yaml.Node) -> Any:
        for mapping in _mappings_in(node):
            lines: dict[tuple[str, str], int] = {}
            for key in (key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)):
                line, name = key.start_mark.line + 1, (key.tag, key.value)
                if name in lines:
                    raise yaml.YAMLError(
                        f"line {line}: {key.value} stands twice, first in line {lines[name]}"
                    )
                lines[name] = line
        return super().construct_document(node)


def _mappings_in(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Yields each mapping of a document once, though aliases repeat it."""
    seen: set[int] = set()
    left = [node]
    while left:
        node = left.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            left += (part for pair in node.value for part in pair)
        else:
            left += node.value


class _Loader(DistinctKeys, yaml.SafeLoader):
    pass


def parse_yaml(text: str | bytes) -> Any:
    """Parses a YAML document. Raises NotYamlError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise NotYamlError(f"not YAML: {error}") from None
    except RecursionError:
        raise NotYamlError("not YAML that can be read: it is nested too deep") from None
    except ValueError as error:  # such as 2025-13-45
        raise NotYamlError(
            f"not YAML: {error}: quote values that look like dates or numbers"
        ) from None


def set_field(override: str, document: dict[str, Any]) -> None:
    """Sets a field of a document by `FIELD=VALUE`, such as `fleet.replicas=16`, where VALUE is
    YAML. Raises ValueError."""
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ValueError(f"'{override}' is not FIELD=VALUE")
    *sections, field = name.split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, dict):
            raise ValueError(f"{name}: '{section}' has no fields")
    try:
        document[field] = parse_yaml(text)
    except NotYamlError:
        document[field] = text


def wrong(field: str, message: str) -> PydanticCustomError:
    """Returns the error that a section's own validators raise: `field` of that section is wrong."""
    return PydanticCustomError("field", "{message}", {"field": field, "message": message})


def explain(error: ValidationError, section: type[Section]) -> list[tuple[str, str]]:
    """Returns each error in a `section` as its field, dotted and empty for the section itself, and
    a message."""
    return [_explain(problem, section) for problem in error.errors()]


def _explain(problem: Any, section: type[Section]) -> tuple[str, str]:
    location = list(problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "field":
        location.append(problem["ctx"]["field"])
    elif problem["type"] == "extra_forbidden":
        allowed = _section_of(location[:-1], section).model_fields
        message = f"unknown field; allowed are: {', '.join(allowed)}"
    elif problem["type"] not in ("missing", "value_error"):
        message = _IN_WORDS_OF_YAML.get(problem["type"], message)
        message += f" (got {_shown(problem['input'])})"
    return ".".join(str(part) for part in location), message


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _section_of(location: list[Any], section: type[Section]) -> type[Section]:
    for part in location:
        field = section.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            section = _section_in(field.annotation) or section
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """Returns the section that a field's type is or contains."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _types_in(part)

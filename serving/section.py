"""Sections of YAML files, with errors that name the field and what is allowed."""

from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of a YAML file: immutable, without unknown fields, and with finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NotYamlError(Exception):
    """The text is not YAML; the message says where and why."""


def parse_yaml(text: bytes) -> Any:
    """Parses a YAML document. Raises NotYamlError."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotYamlError(f"not YAML: {error}") from None
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
        document[field] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
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
        message += f" (got {problem['input']!r})"
    return ".".join(str(part) for part in location), message


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

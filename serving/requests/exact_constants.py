"""Refuses constants in schemas that answers could not have exactly."""

from collections.abc import Mapping
from typing import Any

from serving.mistral.enforceable import CONSTANTS, has_large_integer, is_rounded_constant
from serving.mistral.rules import InvalidRequest
from serving.mistral.schemas import schemas_in
from serving.requests.places import place_of
from serving.requests.request import Chat, Request


def refuse_rounded_constants(request: Request) -> None:
    """Raises InvalidRequest for a `const` or an `enum` with an integer that the answer would have
    rounded, in the schema of the answer's form or of a strict tool."""
    if request.form is not None and request.form.schema is not None:
        _check(request.form.schema, request.form.field)
    for tool in request.tools.callable:
        if tool.strict and tool.parameters and isinstance(request.prompt, Chat):
            _check(tool.parameters, request.prompt.schema_path(tool.name))


def _check(root: Mapping[str, Any], field: str) -> None:
    if not has_large_integer(root):
        return
    for schema in schemas_in(root):
        constants = {name: schema[name] for name in CONSTANTS if name in schema}
        inner = place_of(constants, is_rounded_constant)
        if inner is None:
            continue
        outer = place_of(root, lambda value, of=schema: value is of)  # type: ignore[misc]
        raise InvalidRequest(
            f"{field} cannot be used: {outer}{'.' if outer else ''}{inner} is an integer beyond "
            "2^53 that constrained answers cannot have exactly. Send it as a string.",
            param=field,
            code="invalid_constraint",
        )

"""What a request demands of the form of an answer's text."""

import json

import msgspec

from serving.mistral.rules import InvalidRequest
from serving.requests.request import JsonObject, StructuredOutputs


class _Structure(msgspec.Struct):
    begin: str
    schema: JsonObject
    end: str


class _StructuralTag(msgspec.Struct):
    structures: list[_Structure]
    triggers: list[str]


ANY_OBJECT: JsonObject = {"type": "object"}


def output_form(
    response_format: JsonObject | None, structured_outputs: StructuredOutputs | None
) -> tuple[JsonObject | None, StructuredOutputs | None]:
    """Returns the JSON schema that the text must obey, or any other constraint on it; at least one
    of them is None. The arguments are OpenAI's field and vLLM's. Raises InvalidRequest."""
    form = _of_response_format(response_format)
    if structured_outputs is not None:
        names = [
            name for name, value in msgspec.structs.asdict(structured_outputs).items() if value
        ]
        if len(names) != 1:
            raise _invalid("structured_outputs must have one constraint.", "structured_outputs")
        if form is not None:
            raise _invalid(
                "response_format and structured_outputs exclude each other: send one of them.",
                "structured_outputs",
            )
        form = structured_outputs
    if form is None:
        return None, None
    if form.json_object:
        return ANY_OBJECT, None
    if form.json is None:
        if form.structural_tag is not None:
            field = "response_format" if response_format else "structured_outputs"
            _check_structural_tag(form.structural_tag, field)
        return None, form
    return _schema(form.json) or ANY_OBJECT, None


def _of_response_format(value: JsonObject | None) -> StructuredOutputs | None:
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return StructuredOutputs(json_object=True)
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return StructuredOutputs(json=schema)
        case {"type": "json_schema"}:
            raise _invalid(
                "response_format.json_schema.schema must be a JSON schema.", "response_format"
            )
        case {"type": "structural_tag"}:
            return StructuredOutputs(structural_tag=json.dumps(value, ensure_ascii=False))
    raise _invalid(
        'response_format.type must be "text", "json_object", "json_schema" or "structural_tag".',
        "response_format",
    )


def _check_structural_tag(text: str, field: str) -> None:
    """Raises InvalidRequest for a tag in `field` that vLLM cannot make a grammar of."""
    try:
        tag = msgspec.json.decode(text, type=_StructuralTag)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(f"{field} has no structural tag: {error}.", field) from None
    if not tag.structures:
        raise _invalid(f"{field} must have at least one of structures.", field)
    for index, structure in enumerate(tag.structures):
        if not structure.begin.startswith(tuple(tag.triggers)):
            raise _invalid(
                f"{field}: structures[{index}].begin must begin with one of triggers.", field
            )


def _schema(value: str | JsonObject) -> JsonObject:
    """Returns a schema that may be given as text."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value, type=JsonObject)
        except (msgspec.DecodeError, RecursionError):
            raise _invalid(
                "structured_outputs.json must be a JSON schema.", "structured_outputs"
            ) from None
    return value


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")

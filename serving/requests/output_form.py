"""What a request demands of the form of an answer's text."""

import json

import msgspec

from serving.mistral.rules import InvalidRequest
from serving.requests.request import Chat, JsonObject, Request, StructuredOutputs

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
        return None, form
    return _schema(form.json) or ANY_OBJECT, None


def refuse_to_continue(request: Request) -> None:
    """Rejects an answer of a demanded form that is to continue a begun one: the form would begin
    anew behind the given text."""
    if (
        (request.schema is not None or request.structured_outputs is not None)
        and isinstance(request.prompt, Chat)
        and request.prompt.continue_final_message
    ):
        field = request.form_field
        raise _invalid(
            f"{field} is not supported for an answer that continues the last message: leave out "
            f"{field}, or have a message of the user's behind the assistant's.",
            field,
        )


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

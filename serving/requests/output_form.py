"""What a request demands of the form of an answer's text."""

import copy

import msgspec

from serving.mistral.rules import InvalidRequest
from serving.mistral.schemas import schemas_in
from serving.requests.request import Chat, JsonObject, OutputForm, Request, StructuredOutputs
from serving.requests.structural_tag import structural_tag_grammar

ANY_OBJECT: JsonObject = {"type": "object"}

_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_COMPACT: JsonObject = {"item_separator": ",", "key_separator": ":"}
"""llguidance's options for JSON without white space."""


def output_form(
    response_format: JsonObject | None, structured_outputs: StructuredOutputs | None
) -> OutputForm | None:
    """Returns the form that OpenAI's field and vLLM's demand of the text, if any. Raises
    InvalidRequest."""
    form = _of_response_format(response_format)
    if structured_outputs is None:
        return form
    field = "structured_outputs"
    if sum(bool(getattr(structured_outputs, name)) for name in _CONSTRAINTS) != 1:
        raise InvalidRequest("structured_outputs must have one constraint.", field)
    if form is not None:
        raise InvalidRequest(
            "response_format and structured_outputs exclude each other: send one of them.", field
        )
    if structured_outputs.json_object:
        return OutputForm(field, _with_options(ANY_OBJECT, structured_outputs))
    if structured_outputs.json:
        schema = _schema(structured_outputs.json) or ANY_OBJECT
        return OutputForm(field, _with_options(schema, structured_outputs))
    if structured_outputs.structural_tag:
        return _tagged(structured_outputs.structural_tag, field)
    return OutputForm(field, constraint=structured_outputs)


def refuse_to_continue(request: Request) -> None:
    """Rejects an answer of a demanded form that is to continue a begun one: the form would begin
    anew behind the given text."""
    if (
        request.form is not None
        and isinstance(request.prompt, Chat)
        and request.prompt.continue_final_message
    ):
        field = request.form.field
        raise InvalidRequest(
            f"{field} is not supported for an answer that continues the last message: leave out "
            f"{field}, or have a message of the user's behind the assistant's.",
            field,
        )


def _of_response_format(value: JsonObject | None) -> OutputForm | None:
    field = "response_format"
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object", "schema": dict(schema)}:
            return OutputForm(field, schema or ANY_OBJECT, lenient=True)
        case {"type": "json_object"}:
            if value.get("schema") is not None:
                raise InvalidRequest("response_format.schema must be a JSON schema.", field)
            return OutputForm(field, ANY_OBJECT)
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)} as named}:
            return OutputForm(field, schema or ANY_OBJECT, named.get("strict") is not True)
        case {"type": "json_schema"}:
            raise InvalidRequest("response_format.json_schema.schema must be a JSON schema.", field)
        case {"type": "structural_tag"}:
            return _tagged(value, field)
    raise InvalidRequest(
        'response_format.type must be "text", "json_object", "json_schema" or "structural_tag".',
        field,
    )


def _tagged(form: str | JsonObject, field: str) -> OutputForm:
    grammar = structural_tag_grammar(form, field)
    return OutputForm(field, constraint=StructuredOutputs(grammar=grammar))


def _with_options(schema: JsonObject, options: StructuredOutputs) -> JsonObject:
    """Returns a schema that has vLLM's options itself."""
    if options.disable_additional_properties:
        schema = copy.deepcopy(schema)
        for one in schemas_in(schema):
            if "properties" in one or "patternProperties" in one:
                one.setdefault("additionalProperties", False)
    if options.disable_any_whitespace:
        own = schema.get("x-guidance")
        schema = {**schema, "x-guidance": _COMPACT | (own if isinstance(own, dict) else {})}
    return schema


def _schema(value: str | JsonObject) -> JsonObject:
    """Returns a schema that may be given as text."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value, type=JsonObject)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidRequest(
                "structured_outputs.json must be a JSON schema.", "structured_outputs"
            ) from None
    return value

"""What a request demands of the form of an answer's text."""

import copy
from dataclasses import dataclass

import msgspec

from serving.mistral.rules import InvalidRequest
from serving.mistral.schemas import schemas_in
from serving.requests.request import Chat, JsonObject, Request, StructuredOutputs
from serving.requests.structural_tag import structural_tag_grammar

ANY_OBJECT: JsonObject = {"type": "object"}

_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_COMPACT: JsonObject = {"item_separator": ",", "key_separator": ":"}
"""llguidance's options for JSON without white space."""


@dataclass(frozen=True, slots=True)
class OutputForm:
    """A JSON schema that the text must obey, or any other constraint on it, or neither."""

    schema: JsonObject | None = None
    lenient: bool = False
    """Whether keywords of the schema that no grammar can enforce are ignored."""
    constraint: StructuredOutputs | None = None


def output_form(
    response_format: JsonObject | None, structured_outputs: StructuredOutputs | None
) -> OutputForm:
    """Returns the form of the text. The arguments are OpenAI's field and vLLM's. Raises
    InvalidRequest."""
    form = _of_response_format(response_format)
    if structured_outputs is None:
        return form or OutputForm()
    if sum(bool(getattr(structured_outputs, name)) for name in _CONSTRAINTS) != 1:
        raise InvalidRequest("structured_outputs must have one constraint.", "structured_outputs")
    if form is not None:
        raise InvalidRequest(
            "response_format and structured_outputs exclude each other: send one of them.",
            "structured_outputs",
        )
    if structured_outputs.json_object:
        return OutputForm(_with_options(ANY_OBJECT, structured_outputs))
    if structured_outputs.json:
        schema = _schema(structured_outputs.json) or ANY_OBJECT
        return OutputForm(_with_options(schema, structured_outputs))
    if structured_outputs.structural_tag:
        return _tagged(structured_outputs.structural_tag, "structured_outputs")
    return OutputForm(constraint=structured_outputs)


def refuse_to_continue(request: Request) -> None:
    """Rejects an answer of a demanded form that is to continue a begun one: the form would begin
    anew behind the given text."""
    if (
        (request.schema is not None or request.structured_outputs is not None)
        and isinstance(request.prompt, Chat)
        and request.prompt.continue_final_message
    ):
        field = request.form_field
        raise InvalidRequest(
            f"{field} is not supported for an answer that continues the last message: leave out "
            f"{field}, or have a message of the user's behind the assistant's.",
            field,
        )


def _of_response_format(value: JsonObject | None) -> OutputForm | None:
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object", "schema": dict(schema)}:
            return OutputForm(schema or ANY_OBJECT, lenient=True)
        case {"type": "json_object"}:
            if value.get("schema") is not None:
                raise InvalidRequest(
                    "response_format.schema must be a JSON schema.", "response_format"
                )
            return OutputForm(ANY_OBJECT)
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)} as named}:
            return OutputForm(schema or ANY_OBJECT, lenient=named.get("strict") is not True)
        case {"type": "json_schema"}:
            raise InvalidRequest(
                "response_format.json_schema.schema must be a JSON schema.", "response_format"
            )
        case {"type": "structural_tag"}:
            return _tagged(value, "response_format")
    raise InvalidRequest(
        'response_format.type must be "text", "json_object", "json_schema" or "structural_tag".',
        "response_format",
    )


def _tagged(form: str | JsonObject, param: str) -> OutputForm:
    grammar = structural_tag_grammar(form, param)
    return OutputForm(constraint=StructuredOutputs(grammar=grammar))


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

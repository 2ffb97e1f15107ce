"""Reads requests to OpenAI's Responses API. What needs stored responses is up to the router: their
history is in the input, and the answer repeats the fields that asked for it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from serving.mistral import InvalidRequest, ModelRules, Normalised
from serving.requests import body
from serving.requests.openai_body import OpenAIBody, check_metadata, check_top_logprobs
from serving.requests.output_form import ANY_OBJECT, output_form, refuse_to_continue
from serving.requests.places import as_sent
from serving.requests.request import Chat, JsonObject, OutputForm, Request, StructuredOutputs
from serving.requests.response_input import read_input
from serving.requests.response_tools import ClientTool, ResponseTools, read_tools, with_formats
from serving.requests.strict_functions import with_strictness
from serving.requests.tools import described

PATH = "/v1/responses"
COUNT_PATH = f"{PATH}/input_tokens"
_LOGPROBS = "message.output_text.logprobs"

_Include = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]


class _TextFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: JsonObject | None = None
    description: str | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


_Summary = Literal["auto", "concise", "detailed"]


class _Reasoning(msgspec.Struct):
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    effort: str | None = None
    """One that an API defines; the normalisation refuses others."""
    generate_summary: _Summary | None = None
    mode: str | None = None
    summary: _Summary | None = None


class _Body(OpenAIBody, kw_only=True):
    input: str | list[Any]
    background: bool | None = None
    previous_response_id: str | None = None
    instructions: str | None = None
    include: list[_Include] | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    reasoning: _Reasoning | None = None
    safety_identifier: str | None = None
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = None
    text: _Text | None = None
    tool_choice: str | JsonObject | None = None
    tools: list[JsonObject] | None = None
    top_logprobs: int | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    include_reasoning: bool | None = None
    structured_outputs: StructuredOutputs | None = None


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """What the answer's form depends on."""

    echoed: JsonObject = field(default_factory=dict)
    """Fields of the request that a response repeats, in the API's form."""
    tools: Mapping[str, ClientTool] = field(default_factory=dict)
    """The tools that are no plain functions to the client, by the model's name."""
    include_reasoning: bool = True


def read(raw: bytes, rules: ModelRules, today: datetime.date) -> tuple[Request, ResponseOptions]:
    """Reads the body of a request. Raises InvalidRequest."""
    fields, normalised = body.read(PATH, raw, _Body, rules, today)
    if fields.max_output_tokens is not None and fields.max_output_tokens < 1:
        raise InvalidRequest("max_output_tokens must be at least 1.", "max_output_tokens")
    check_top_logprobs(fields.top_logprobs)
    if fields.metadata is not None:
        check_metadata(fields.metadata)
    tools = _tools(fields)
    chat = _chat(fields, tools, normalised)
    choice = "auto" if fields.tool_choice is None else fields.tool_choice
    request = fields.request(
        chat,
        fields.max_output_tokens,
        _logprobs(fields),
        normalised,
        form=_output_form(fields),
        tools=tools.allowed(choice, fields.parallel_tool_calls is not False),
        truncate_prompt_tokens=-1 if fields.truncation == "auto" else None,
    )
    refuse_to_continue(request)
    return request, ResponseOptions(
        _echoed(fields, choice, rules), tools.client, fields.include_reasoning is not False
    )


def read_count(
    raw: bytes, rules: ModelRules, today: datetime.date
) -> tuple[str | None, Chat, Normalised]:
    """Reads the body of /v1/responses/input_tokens: the model and the prompt, which is that of the
    same response. Raises InvalidRequest."""
    fields, normalised = body.read(COUNT_PATH, raw, _Body, rules, today)
    return fields.model, _chat(fields, _tools(fields), normalised), normalised


def _tools(fields: _Body) -> ResponseTools:
    fields.tools = with_strictness(fields.tools or [])
    return read_tools(fields.tools)


def _chat(fields: _Body, tools: ResponseTools, normalised: Normalised) -> Chat:
    with as_sent(normalised.numbers):
        messages, continued = read_input(fields.input, fields.instructions, tools)
    return Chat(
        messages,
        described(tools.functions),
        continued,
        normalised.answer.originals,
        tools.schema_paths,
        field="input",
    )


def _logprobs(fields: _Body) -> int | None:
    if fields.include is None or _LOGPROBS not in fields.include:
        return None
    return fields.top_logprobs or 0


def _output_form(fields: _Body) -> OutputForm | None:
    form = _of_text_format(fields.text.format if fields.text else None)
    if form is None:
        return output_form(None, fields.structured_outputs)
    if fields.structured_outputs is not None:
        raise InvalidRequest(
            "text.format and structured_outputs exclude each other: send one of them.",
            "structured_outputs",
        )
    return form


def _of_text_format(format: _TextFormat | None) -> OutputForm | None:
    if format is None or format.type == "text":
        return None
    field, lenient = "text.format", format.strict is not True
    if format.type == "json_object":
        return OutputForm(field, format.schema or ANY_OBJECT, lenient)
    if format.schema is None:
        raise InvalidRequest("text.format.schema is missing.", param="text", code="missing")
    if format.name is None:
        raise InvalidRequest("text.format.name is missing.", param="text", code="missing")
    return OutputForm(field, format.schema, lenient)


def _echoed(fields: _Body, choice: str | JsonObject, rules: ModelRules) -> JsonObject:
    sampling = {"temperature": 1.0, "top_p": 1.0, **rules.sampling}
    retention = fields.prompt_cache_retention
    return {
        "instructions": fields.instructions,
        "metadata": fields.metadata or {},
        "parallel_tool_calls": fields.parallel_tool_calls is not False,
        "temperature": sampling["temperature"]
        if fields.temperature is None
        else fields.temperature,
        "top_p": sampling["top_p"] if fields.top_p is None else fields.top_p,
        "presence_penalty": fields.presence_penalty or 0.0,
        "frequency_penalty": fields.frequency_penalty or 0.0,
        "tool_choice": choice,
        "tools": with_formats(fields.tools or []),
        "background": fields.background is True,
        "max_output_tokens": fields.max_output_tokens,
        "max_tool_calls": fields.max_tool_calls,
        "previous_response_id": fields.previous_response_id,
        "prompt_cache_key": fields.prompt_cache_key,
        # Today's clients do not read the former name.
        "prompt_cache_retention": "in_memory" if retention == "in-memory" else retention,
        "reasoning": None if fields.reasoning is None else _given(fields.reasoning),
        "safety_identifier": fields.safety_identifier,
        "service_tier": fields.service_tier or "auto",
        "text": _echoed_text(fields.text),
        "top_logprobs": fields.top_logprobs or 0,
        "truncation": fields.truncation or "disabled",
        "user": fields.user,
    }


def _echoed_text(text: _Text | None) -> JsonObject:
    format = text.format if text is not None else None
    echoed: JsonObject = {"format": {"type": "text"}}
    if format is not None:
        echoed["format"] = _given(format)
    if text is not None and text.verbosity is not None:
        echoed["verbosity"] = text.verbosity
    return echoed


def _given(fields: msgspec.Struct) -> JsonObject:
    return {
        name: value for name, value in msgspec.structs.asdict(fields).items() if value is not None
    }

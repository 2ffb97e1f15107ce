"""Reads requests to OpenAI's Responses API. What needs stored responses is up to the router: their
history is in the input, and the answer repeats the fields that asked for it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from serving.mistral import InvalidRequest, ModelRules
from serving.requests import body
from serving.requests.openai_body import OpenAIBody
from serving.requests.output_form import ANY_OBJECT, output_form
from serving.requests.request import JsonObject, Request, StructuredOutputs
from serving.requests.response_input import read_input
from serving.requests.response_tools import ClientTool, read_tools

PATH = "/v1/responses"
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
    prompt_cache_retention: str | None = None
    reasoning: JsonObject | None = None
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
        raise _invalid("max_output_tokens must be at least 1.", "max_output_tokens")
    if fields.top_logprobs is not None and fields.top_logprobs < 0:
        raise _invalid("top_logprobs must be at least 0.", "top_logprobs")
    chat = read_input(fields.input, fields.instructions)
    tools = read_tools(fields.tools or [])
    chat.tools, chat.originals = tools.chat(), normalised.answer.originals
    chat.field = "input"
    choice = "auto" if fields.tool_choice is None else fields.tool_choice
    schema, structured_outputs = _constraint(fields)
    request = fields.request(
        chat,
        fields.max_output_tokens,
        _logprobs(fields),
        normalised,
        tools=tools.allowed(choice, fields.parallel_tool_calls is not False),
        schema=schema,
        structured_outputs=structured_outputs,
        truncate_prompt_tokens=-1 if fields.truncation == "auto" else None,
    )
    return request, ResponseOptions(
        _echoed(fields, choice), tools.client, fields.include_reasoning is not False
    )


def _logprobs(fields: _Body) -> int | None:
    if fields.include is None or _LOGPROBS not in fields.include:
        return None
    return fields.top_logprobs or 0


def _constraint(fields: _Body) -> tuple[JsonObject | None, StructuredOutputs | None]:
    """Returns the schema of the text or another constraint on it."""
    schema = _text_schema(fields.text.format if fields.text else None)
    if schema is not None and fields.structured_outputs is not None:
        raise _invalid(
            "text.format and structured_outputs exclude each other: send one of them.",
            "structured_outputs",
        )
    return (schema, None) if schema is not None else output_form(None, fields.structured_outputs)


def _text_schema(format: _TextFormat | None) -> JsonObject | None:
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return ANY_OBJECT
    if format.schema is None:
        raise InvalidRequest("text.format.schema is missing.", param="text", code="missing")
    if format.name is None:
        raise InvalidRequest("text.format.name is missing.", param="text", code="missing")
    return format.schema


def _echoed(fields: _Body, choice: str | JsonObject) -> JsonObject:
    return {
        "instructions": fields.instructions,
        "metadata": fields.metadata or {},
        "parallel_tool_calls": fields.parallel_tool_calls is not False,
        "temperature": 1.0 if fields.temperature is None else fields.temperature,
        "top_p": 1.0 if fields.top_p is None else fields.top_p,
        "presence_penalty": fields.presence_penalty or 0.0,
        "frequency_penalty": fields.frequency_penalty or 0.0,
        "tool_choice": choice,
        "tools": fields.tools or [],
        "background": fields.background is True,
        "max_output_tokens": fields.max_output_tokens,
        "max_tool_calls": fields.max_tool_calls,
        "previous_response_id": fields.previous_response_id,
        "prompt_cache_key": fields.prompt_cache_key,
        "prompt_cache_retention": fields.prompt_cache_retention,
        "reasoning": fields.reasoning,
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
        given = msgspec.structs.asdict(format)
        echoed["format"] = {key: value for key, value in given.items() if value is not None}
    if text is not None and text.verbosity is not None:
        echoed["verbosity"] = text.verbosity
    return echoed


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")

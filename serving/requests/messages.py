"""Reads the requests of Anthropic's Messages API."""

import datetime
from typing import Any, Literal

import msgspec

from serving.mistral import InvalidRequest, ModelRules, Normalised
from serving.requests import body
from serving.requests.anthropic_turns import Message, chat_messages
from serving.requests.function_names import LONG_NAME, is_function_name
from serving.requests.openai_body import check_salt, stop_strings
from serving.requests.output_form import refuse_to_continue
from serving.requests.places import as_sent
from serving.requests.request import Chat, JsonObject, OutputForm, Request, Sampling, Tools
from serving.requests.tools import callable_tools, described

PATH = "/v1/messages"
COUNT_PATH = f"{PATH}/count_tokens"


class _Tool(msgspec.Struct):
    name: str
    input_schema: JsonObject
    description: str | None = None
    strict: bool | None = None

    def function(self) -> JsonObject:
        function: JsonObject = {
            "name": self.name,
            "description": self.description or "",
            "parameters": {"type": "object", **self.input_schema},
        }
        return function if self.strict is None else {**function, "strict": self.strict}


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: JsonObject


class _OutputConfig(msgspec.Struct):
    format: _Format | None = None


class _CountBody(msgspec.Struct, kw_only=True):
    messages: list[Message]
    model: str | None = None
    system: str | list[JsonObject] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None

    def functions(self) -> list[JsonObject]:
        return [tool.function() for tool in self.tools or ()]

    def chat(self, normalised: Normalised) -> Chat:
        with as_sent(normalised.numbers):
            messages = chat_messages(self.system, self.messages)
        continued = bool(messages) and messages[-1]["role"] == "assistant"
        if continued and messages[-1].get("tool_calls"):
            raise InvalidRequest(
                "messages must have a tool_result for each tool_use of the last turn.",
                param="messages",
            )
        functions = self.functions()
        for index, function in enumerate(functions):
            if not is_function_name(function["name"]):
                raise InvalidRequest(f"tools[{index}].name must be {LONG_NAME}.", param="tools")
        paths = tuple(f"tools[{index}].input_schema" for index in range(len(functions)))
        return Chat(messages, described(functions), continued, normalised.answer.originals, paths)

    def callable_tools(self) -> Tools:
        choice = self.tool_choice or _ToolChoice("auto")
        named = choice.name or "" if choice.type == "tool" else None
        kind = {"any": "required", "tool": "required"}.get(choice.type, choice.type)
        parallel = not choice.disable_parallel_tool_use
        return callable_tools(self.functions(), kind, named, parallel)


class _Body(_CountBody, kw_only=True):
    max_tokens: int
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    output_config: _OutputConfig | None = None
    cache_salt: str | None = None
    vllm_xargs: dict[str, Any] | None = None


def read(raw: bytes, rules: ModelRules, today: datetime.date) -> tuple[Request, None]:
    """Reads the body of /v1/messages, of which no field changes the form of the answer. Raises
    InvalidRequest."""
    fields, normalised = body.read(PATH, raw, _Body, rules, today)
    if fields.max_tokens < 1:
        raise InvalidRequest("max_tokens must be at least 1.", param="max_tokens")
    check_salt(fields.cache_salt)
    form = fields.output_config.format if fields.output_config else None
    request = Request(
        model=fields.model,
        prompt=fields.chat(normalised),
        sampling=Sampling(
            temperature=fields.temperature,
            top_p=fields.top_p,
            top_k=fields.top_k,
            vllm_xargs=fields.vllm_xargs,
        ),
        max_tokens=fields.max_tokens,
        stop=stop_strings(fields.stop_sequences, "stop_sequences"),
        tools=fields.callable_tools(),
        form=OutputForm("output_config.format", form.schema) if form else None,
        cache_salt=fields.cache_salt,
        stream=fields.stream,
        normalised=normalised,
    )
    refuse_to_continue(request)
    return request, None


def read_count(
    raw: bytes, rules: ModelRules, today: datetime.date
) -> tuple[str | None, Chat, Normalised]:
    """Reads the body of /v1/messages/count_tokens: the model and the prompt, which is that of the
    same message. Raises InvalidRequest."""
    fields, normalised = body.read(COUNT_PATH, raw, _CountBody, rules, today)
    return fields.model, fields.chat(normalised), normalised

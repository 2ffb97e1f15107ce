"""Reads requests to OpenAI's chat completions."""

import datetime
from dataclasses import dataclass
from typing import Any

import msgspec

from serving.mistral import InvalidRequest, ModelRules
from serving.requests import body
from serving.requests.chat_messages import check_messages
from serving.requests.chat_tools import read_tools
from serving.requests.openai_body import CompletionsBody, check_metadata, check_top_logprobs
from serving.requests.output_form import refuse_to_continue
from serving.requests.places import as_sent
from serving.requests.request import Chat, JsonObject, Request
from serving.requests.tools import described

PATH = "/v1/chat/completions"


class _ChatBody(CompletionsBody, kw_only=True):
    messages: list[JsonObject] = msgspec.field(default_factory=list)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    tools: list[JsonObject] = msgspec.field(default_factory=list)
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool = True
    continue_final_message: bool = False
    echo: bool = False
    store: Any = None
    metadata: Any = None
    return_tokens_as_token_ids: bool | None = None


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the encoder of chat completions needs to know of the request."""

    n: int
    include_usage: bool = False
    """Whether the stream ends with a chunk of its usage."""
    continuous_usage: bool = False
    """Whether each chunk has the usage so far."""
    return_token_ids: bool = False
    usage_at_end: bool = False
    """Whether the chunk that ends the last answer has the usage, as Mistral's own API has it."""
    whole_calls: bool = False
    """Whether a stream has all calls in its last chunk, as Mistral's own API streams them."""
    echo: str = ""
    """Text that the answer repeats before its own: the message that it continues."""
    tokens_as_ids: bool = False
    """Whether log-probabilities name tokens by their ids."""
    custom_tools: frozenset[str] = frozenset()
    """The names of the tools whose calls have a text as their input."""


def read(raw: bytes, rules: ModelRules, today: datetime.date) -> tuple[Request, ChatOptions]:
    """Reads a request. Raises InvalidRequest."""
    given, normalised = body.read(PATH, raw, _ChatBody, rules, today)
    if not given.messages:
        raise InvalidRequest("messages must not be empty.", param="messages", code="missing_field")
    with as_sent(normalised.numbers):
        check_messages(given.messages, rules)
    if given.store is True and given.metadata is not None:  # else it goes nowhere
        check_metadata(given.metadata)
    tools = read_tools(given.tools)
    chat = Chat(
        given.messages,
        described(tools.functions),
        given.continue_final_message,
        normalised.answer.originals,
        tools.schema_paths,
    )
    max_tokens = _max_tokens(given)
    if given.messages[-1]["role"] == "assistant" and not given.continue_final_message:
        raise InvalidRequest(
            "The last message is the assistant's: add a message after it, or set"
            " continue_final_message to have it continued.",
            "messages",
        )
    if given.continue_final_message and given.messages[-1]["role"] != "assistant":
        raise InvalidRequest(
            "continue_final_message needs a last message of the assistant's.",
            "continue_final_message",
        )
    include_usage, continuous_usage = given.usage_in_stream()
    request = given.request(
        chat,
        max_tokens,
        _logprobs(given),
        normalised,
        tools=tools.allowed(given.tool_choice, given.parallel_tool_calls),
    )
    refuse_to_continue(request)
    return request, ChatOptions(
        request.n,
        include_usage,
        continuous_usage,
        given.return_token_ids,
        given.leaves_usage_open(),
        echo=chat.begun if given.echo else "",
        tokens_as_ids=given.return_tokens_as_token_ids is True,
        custom_tools=tools.custom,
    )


def _max_tokens(given: _ChatBody) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value: int | None = getattr(given, name)
        if value is not None:
            if value < 1:
                raise InvalidRequest(f"{name} must be at least 1.", name)
            return value
    return None


def _logprobs(given: _ChatBody) -> int | None:
    top = given.top_logprobs
    check_top_logprobs(top)
    if top and not given.logprobs:
        raise InvalidRequest("top_logprobs requires logprobs to be true.", "top_logprobs")
    return (top or 0) if given.logprobs else None

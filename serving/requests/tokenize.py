"""Reads requests to /tokenize and /detokenize."""

import datetime

import msgspec

from serving.mistral import InvalidRequest, ModelRules, Normalised
from serving.requests import body
from serving.requests.chat_messages import check_messages
from serving.requests.chat_tools import read_tools
from serving.requests.places import as_sent
from serving.requests.request import Chat, JsonObject
from serving.requests.tools import described

PATH = "/tokenize"


class _TokenizeBody(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    messages: list[JsonObject] | None = None
    tools: list[JsonObject] | None = None
    continue_final_message: bool = False
    add_special_tokens: bool = True
    return_token_strs: bool = False


class TokenizeRequest(msgspec.Struct):
    """A text or a chat whose tokens are asked for."""

    model: str | None
    prompt: str | Chat
    add_special_tokens: bool
    """Whether a text gets the token that begins a sequence."""
    return_token_strs: bool
    normalised: Normalised


class DetokenizeRequest(msgspec.Struct):
    """Tokens whose text is asked for."""

    tokens: list[int]
    model: str | None = None


def read(raw: bytes, rules: ModelRules, today: datetime.date) -> TokenizeRequest:
    """Raises InvalidRequest."""
    given, normalised = body.read(PATH, raw, _TokenizeBody, rules, today)
    prompt: str | Chat
    if given.messages is not None:
        with as_sent(normalised.numbers):
            check_messages(given.messages, rules)
        tools = read_tools(given.tools or ())
        prompt = Chat(
            given.messages,
            described(tools.functions),
            given.continue_final_message,
            normalised.answer.originals,
            tools.schema_paths,
        )
    elif given.prompt is not None:
        prompt = given.prompt
    else:
        raise InvalidRequest("Send prompt or messages.", param="prompt", code="missing_field")
    return TokenizeRequest(
        given.model, prompt, given.add_special_tokens, given.return_token_strs, normalised
    )


def read_tokens(raw: bytes) -> DetokenizeRequest:
    """Raises InvalidRequest."""
    return body.decode(raw, DetokenizeRequest)

"""Reads requests to /tokenize and /detokenize."""

import msgspec

from serving.mistral.rules import InvalidRequest
from serving.requests.body import decode
from serving.requests.chat import function_of
from serving.requests.chat_messages import check_messages
from serving.requests.request import Chat, JsonObject


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


class DetokenizeRequest(msgspec.Struct):
    """Tokens whose text is asked for."""

    tokens: list[int]
    model: str | None = None


def read(body: bytes) -> TokenizeRequest:
    """Raises InvalidRequest."""
    given = decode(body, _TokenizeBody)
    prompt: str | Chat
    if given.messages is not None:
        check_messages(given.messages)
        tools = [
            {"type": "function", "function": function_of(tool, index)}
            for index, tool in enumerate(given.tools or ())
        ]
        prompt = Chat(given.messages, tools, given.continue_final_message)
    elif given.prompt is not None:
        prompt = given.prompt
    else:
        raise InvalidRequest("Send prompt or messages.", param="prompt", code="missing_field")
    return TokenizeRequest(given.model, prompt, given.add_special_tokens, given.return_token_strs)


def read_tokens(body: bytes) -> DetokenizeRequest:
    """Raises InvalidRequest."""
    return decode(body, DetokenizeRequest)

"""The APIs through which an engine generates answers."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from serving.encoders.chat import ChatEncoder
from serving.encoders.completions import CompletionEncoder
from serving.encoders.encoder import Encoder
from serving.encoders.messages import ID_PREFIX, MessagesEncoder
from serving.encoders.responses import ResponsesEncoder
from serving.mistral import ModelRules
from serving.mistral.clients import takes_calls_whole
from serving.requests import chat, completions, messages, responses
from serving.requests.chat import ChatOptions
from serving.requests.request import Request


@dataclass(frozen=True, slots=True)
class Api:
    """How an API's requests are read and its answers written."""

    read: Callable[[bytes, ModelRules, datetime.date], tuple[Request, Any]]
    encoder: Callable[..., Encoder]
    id_prefix: str
    for_client: Callable[[Any, Mapping[bytes, bytes]], Any] = lambda options, _: options
    """Returns what the encoder needs to know of a request whose client has sent those headers."""
    repeats_logprobs: bool = False
    """Whether the last event of a stream repeats all log-probabilities."""


def _chat_options(options: ChatOptions, headers: Mapping[bytes, bytes]) -> ChatOptions:
    return replace(options, whole_calls=takes_calls_whole(headers, not options.usage_at_end))


APIS: Mapping[str, Api] = {
    chat.PATH: Api(chat.read, ChatEncoder, "chatcmpl-", _chat_options),
    completions.PATH: Api(completions.read, CompletionEncoder, "cmpl-"),
    responses.PATH: Api(responses.read, ResponsesEncoder, "resp_", repeats_logprobs=True),
    messages.PATH: Api(messages.read, MessagesEncoder, ID_PREFIX),
}
"""The APIs by their paths."""

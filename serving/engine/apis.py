"""The APIs through which an engine generates answers."""

import datetime
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from serving.answers.events import Arguments, Event, Reasoning, Text
from serving.encoders.chat import ChatEncoder
from serving.encoders.completions import CompletionEncoder
from serving.encoders.encoder import Encoder
from serving.encoders.messages import ID_PREFIX, MessagesEncoder
from serving.encoders.responses import ResponsesEncoder
from serving.mistral import ModelRules
from serving.requests import chat, completions, messages, responses
from serving.requests.request import Request


@dataclass(frozen=True, slots=True)
class Api:
    """How an API's requests are read and its answers written."""

    read: Callable[[bytes, ModelRules, datetime.date], tuple[Request, Any]]
    encoder: Callable[..., Encoder]
    id_prefix: str
    told_by: Collection[type[Event]] = (Text, Reasoning, Arguments)
    """The answer's events whose text the API's own events have unchanged."""


APIS: Mapping[str, Api] = {
    chat.PATH: Api(chat.read, ChatEncoder, "chatcmpl-"),
    completions.PATH: Api(completions.read, CompletionEncoder, "cmpl-", (Text,)),
    responses.PATH: Api(responses.read, ResponsesEncoder, "resp_", (Text,)),
    messages.PATH: Api(messages.read, MessagesEncoder, ID_PREFIX),
}
"""The APIs by their paths."""

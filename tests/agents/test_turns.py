"""What coding agents send is read as they mean it, for each tokenizer version."""

import datetime
import json
from typing import Any

import pytest
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

from serving.mistral import InvalidRequest, Normalised
from serving.requests import chat, completions, messages, responses
from serving.requests.request import Chat
from tests.agents.turns import TURNS, Turn
from tests.mistral.tokenizers import VERSIONS, rules, tokenizer

TODAY = datetime.date(2026, 3, 1)
READERS: dict[str, Any] = {
    "/v1/chat/completions": chat.read,
    "/v1/completions": completions.read,
    "/v1/responses": responses.read,
    "/v1/messages": messages.read,
}


def read(turn: Turn, version: str) -> tuple[Any, Normalised, dict[str, str]]:
    """Returns the prompt of a turn as the engine reads it, what was changed in the request, and the
    client's names of tools whose names were too long."""
    body = json.dumps(turn.request()).encode()
    given = rules(version, context_tokens=131072, other_server=False)
    if turn.endpoint == messages.COUNT_PATH:
        _, prompt, done = messages.read_count(body, given, TODAY)
        return prompt, done, done.answer.originals
    request, options = READERS[turn.endpoint](body, given, TODAY)
    names = dict(request.normalised.answer.originals)
    if isinstance(options, responses.ResponseOptions):
        tools = options.tools.items()
        names |= {known: tool.name for known, tool in tools if tool.namespace is None}
    return request.prompt, request.normalised, names


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_a_turn_is_read_as_the_agent_means_it(turn: Turn, version: str) -> None:
    if turn.refused is not None:
        with pytest.raises(InvalidRequest) as raised:
            read(turn, version)
        assert raised.value.param == turn.refused
        return
    read_prompt, done, names = read(turn, version)
    if version != "v13":  # whose prompts have the thoughts of earlier turns
        assert len(done.warnings) == len(turn.warnings), done.warnings
        for piece, warning in zip(turn.warnings, done.warnings, strict=True):
            assert piece in warning
    if turn.prompt is None:
        assert read_prompt == [turn.body["prompt"]]
        return
    assert isinstance(read_prompt, Chat)
    assert [message["role"] for message in read_prompt.messages] == turn.prompt.roles
    named = [tool["function"]["name"] for tool in read_prompt.tools]
    assert [names.get(name, name) for name in named] == turn.prompt.tools
    assert read_prompt.continue_final_message is turn.prompt.continued
    request = ChatCompletionRequest.from_openai(
        read_prompt.messages,
        read_prompt.tools or None,
        continue_final_message=read_prompt.continue_final_message,
    )
    encoded = tokenizer(version).encode_chat_completion(request)
    text = tokenizer(version).decode(encoded.tokens, SpecialTokenPolicy.KEEP)
    assert [piece for piece in turn.prompt.texts if piece not in text] == []
    if version != "v13":
        assert [piece for piece in turn.prompt.absent if piece in text] == []
    assert len(encoded.images) == turn.prompt.images

"""What coding agents send is read as they mean it, for each tokenizer version."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

from serving.mistral import InvalidRequest, Normalised, normalise
from serving.requests import chat, completions, messages, responses
from serving.requests.request import Chat
from tests.agents.turns import TURNS, Turn
from tests.mistral.tokenizers import VERSIONS, rules, tokenizer

TODAY = datetime.date(2026, 3, 1)
READERS: dict[str, Callable[[bytes], Any]] = {
    "/v1/chat/completions": lambda body: chat.read(body)[0].prompt,
    "/v1/completions": lambda body: completions.read(body)[0].prompt,
    "/v1/responses": lambda body: responses.read(body)[0].prompt,
    "/v1/messages": lambda body: messages.read(body)[0].prompt,
    "/v1/messages/count_tokens": lambda body: messages.read_count(body)[1],
}


def read(turn: Turn, version: str) -> tuple[Any, Normalised]:
    """Returns the prompt of a turn as the engine reads it, and what was changed in the request."""
    body = turn.request()
    done = normalise(turn.endpoint, body, rules(version, context_tokens=131072), TODAY)
    return READERS[turn.endpoint](json.dumps(body).encode()), done


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_a_turn_is_read_as_the_agent_means_it(turn: Turn, version: str) -> None:
    if turn.refused is not None:
        with pytest.raises(InvalidRequest) as raised:
            read(turn, version)
        assert raised.value.param == turn.refused
        return
    read_prompt, done = read(turn, version)
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
    assert [done.answer.originals.get(name, name) for name in named] == turn.prompt.tools
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

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.mistral.normalise import RULES
from serving.placement import prefix_of, prompt_parts
from serving.placement.prompt_parts import Kind, Part
from tests.mistral.conversations import BODIES, CONVERSATIONS
from tests.mistral.tokenizers import VERSIONS, prompt

CHAT = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


def parts(body: dict[str, Any], endpoint: str = CHAT, tools_first: bool = False) -> list[Part]:
    return prompt_parts(endpoint, body, tools_first)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, {"messages": [user("a")]}),
        ("/v1/messages", {"messages": [user("a")]}),
        ("/v1/responses", {"input": "a"}),
    ],
)
def test_a_conversation_without_a_system_prompt_has_the_models(
    endpoint: str, body: dict[str, Any]
) -> None:
    added = prompt_parts(endpoint, body, False, "be")
    assert added == [(Kind.SYSTEM, "be"), (Kind.USER, "a")]
    own: dict[str, Any] = {"system": "mine", "instructions": "mine"}
    if endpoint == CHAT:
        own = {"messages": [{"role": "developer", "content": "mine"}, user("a")]}
    given = prompt_parts(endpoint, body | own, False, "be")
    assert given == [(Kind.SYSTEM, "mine"), (Kind.USER, "a")]


def test_a_completion_has_no_system_prompt() -> None:
    assert prompt_parts("/v1/completions", {"prompt": "a"}, False, "be") == [(Kind.TEXT, "a")]


def test_a_chat_is_its_turns_in_order() -> None:
    messages = [{"role": "system", "content": "be"}, user("a"), assistant("b"), user("c")]
    assert parts({"messages": messages}) == [
        (Kind.SYSTEM, "be"),
        (Kind.USER, "a"),
        (Kind.ASSISTANT, "b"),
        (Kind.USER, "c"),
    ]


@pytest.mark.parametrize(("tools_first", "at"), [(False, 2), (True, 0)])
def test_tools_stand_before_the_last_turn_of_the_user_or_the_first(
    tools_first: bool, at: int
) -> None:
    call = assistant(None, tool_calls=[{"id": "123456789"}])
    result = {"role": "tool", "content": "7", "tool_call_id": "123456789"}
    messages = [user("a"), assistant("b"), user("c"), call, result]
    found = parts({"messages": messages, "tools": TOOLS}, tools_first=tools_first)
    assert [kind for kind, _ in found].index(Kind.TOOLS) == at
    assert (Kind.TOOL, "7") in found
    assert (Kind.ASSISTANT, b'[{"id":"123456789"}]') in found


def test_images_count_by_content_and_as_images() -> None:
    found = parts({"messages": [user([{"type": "text", "text": "what?"}, IMAGE])]})
    assert found == [(Kind.USER, "what?"), (Kind.IMAGE, "data:image/png;base64,AAAA")]


@pytest.mark.parametrize(
    ("given_prompt", "expected"),
    [
        ("abc", [(Kind.TEXT, "abc")]),
        (["abc", "d"], [(Kind.TEXT, "abc"), (Kind.TEXT, "d")]),
        ([1, 2], [(Kind.TOKEN_IDS, b"\1\0\0\0\2\0\0\0")]),
        ([[1], [2]], [(Kind.TOKEN_IDS, b"\1\0\0\0"), (Kind.TOKEN_IDS, b"\2\0\0\0")]),
        ([1, "a"], []),
        ([1 << 40], []),
        ([], []),
        (None, []),
    ],
)
def test_completions_have_texts_or_token_ids(given_prompt: Any, expected: list[Part]) -> None:
    assert parts({"prompt": given_prompt}, "/v1/completions") == expected


def test_responses_have_instructions_and_items() -> None:
    items = [
        user([{"type": "input_text", "text": "a"}]),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "7"},
    ]
    body = {"instructions": "be", "input": items}
    found = parts(body, "/v1/responses")
    assert [kind for kind, _ in found] == [Kind.SYSTEM, Kind.USER, Kind.ASSISTANT, Kind.TOOL]
    assert parts({"input": "a"}, "/v1/responses") == [(Kind.USER, "a")]


def test_anthropic_results_of_tools_are_no_turns_of_the_user() -> None:
    messages = [
        user("a"),
        assistant([{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
        user([{"type": "tool_result", "tool_use_id": "t", "content": "7"}]),
    ]
    body = {"system": [{"type": "text", "text": "be"}], "messages": messages, "tools": TOOLS}
    found = parts(body, "/v1/messages")
    assert [kind for kind, _ in found] == [
        Kind.SYSTEM,
        Kind.TOOLS,
        Kind.USER,
        Kind.ASSISTANT,
        Kind.TOOL,
    ]
    assert found[-1] == (Kind.TOOL, "7")
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    with_image = [user([{"type": "image", "source": source}])]
    assert parts({"messages": with_image}, "/v1/messages") == [(Kind.IMAGE, "AAAA")]


@given(st.sampled_from(list(RULES)), BODIES, st.booleans())
def test_any_body_at_all_is_read(endpoint: str, body: dict[str, Any], tools_first: bool) -> None:
    prefix_of(prompt_parts(endpoint, body, tools_first))


def test_one_that_is_nested_too_deeply_is_read_as_far_as_it_goes() -> None:
    nested: Any = "a"
    for _ in range(5000):
        nested = [nested]
    assert parts({"prompt": nested}, "/v1/completions") == []


def test_half_a_surrogate_pair_is_text() -> None:
    body = {"messages": [user("\ud83d"), assistant(None, tool_calls=[{"id": "\ud83d"}])]}
    assert len(prefix_of(parts(body)).hashes) == 2


def common_characters(one: str, other: str) -> int:
    same = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        same += 1
    return same


@pytest.mark.parametrize("version", VERSIONS)
def test_two_turns_share_in_their_chains_what_they_share_in_mistrals_template(version: str) -> None:
    """The judge is the text that mistral-common makes of each, compared in characters."""
    text = {name: name * (700 // len(name)) for name in ("be", "one", "two", "three", "four")}
    calls = [{"id": "123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    conversation = [
        {"role": "system", "content": text["be"]},
        user(text["one"]),
        assistant(text["two"]),
        user(text["three"]),
        assistant("", tool_calls=calls),
        {"role": "tool", "tool_call_id": "123456789", "content": text["four"]},
        assistant(text["one"]),
        user(text["two"]),
    ]
    bodies = [
        {"messages": conversation[:length], **tools}
        for length in (2, 4, 6, 8)
        for tools in ({}, {"tools": TOOLS})
    ]
    compared = 0
    for one in bodies:
        for other in bodies:
            prompts = [prompt(version, json.loads(json.dumps(body))) for body in (one, other)]
            if one is other or prompts[0] is None or prompts[1] is None:
                continue
            chains = [
                prefix_of(parts(body, tools_first=version == "v13"), bytes_per_token=1)
                for body in (one, other)
            ]
            shared = 0
            for a, b, end in zip(
                chains[0].hashes, chains[1].hashes, chains[0].ends_tokens, strict=False
            ):
                if a != b:
                    break
                shared = end
            # The error is a block of 256 bytes, and the marks around each turn.
            assert abs(shared - common_characters(prompts[0], prompts[1])) < 256 + 100
            compared += 1
    assert compared > 40


@given(CONVERSATIONS)
def test_a_conversation_begins_with_the_chain_of_its_earlier_turns(body: dict[str, Any]) -> None:
    whole = prefix_of(prompt_parts(CHAT, body, tools_first=True))
    earlier = {**body, "messages": body["messages"][:-1]}
    if not any(message["role"] == "user" for message in earlier["messages"]):
        return
    chain = prefix_of(prompt_parts(CHAT, earlier, tools_first=True))
    assert whole.hashes[: len(chain.hashes)] == chain.hashes
    assert whole.ends_tokens[: len(chain.hashes)] == chain.ends_tokens

"""Requests that Mistral's tokenizers would refuse are read, and answered in the client's terms."""

import json
from dataclasses import replace
from typing import Any

import pytest
from mistral_common.exceptions import InvalidMessageStructureException

from serving.mistral.tool_ids import nine_alphanumerics
from tests.engine.asking import BODIES, CHAT, COMPLETIONS, MESSAGES, RESPONSES, asked, events_of
from tests.engine.fake_llm import CONTEXT_TOKENS, EOS, FakeLlm, Part, control, ids, text
from tests.support.reading import RULES

SMALL = replace(RULES, context_tokens=CONTEXT_TOKENS)
LONG_NAME = "n" * 100
SCHEMA = {"type": "object"}
TOOLS: dict[str, Any] = {
    CHAT: {"type": "function", "function": {"name": LONG_NAME, "parameters": SCHEMA}},
    RESPONSES: {"type": "function", "name": LONG_NAME, "parameters": SCHEMA},
    MESSAGES: {"name": LONG_NAME, "input_schema": SCHEMA},
}
LIMITS = {
    CHAT: "max_tokens",
    COMPLETIONS: "max_tokens",
    RESPONSES: "max_output_tokens",
    MESSAGES: "max_tokens",
}
CALL = {"id": "call_1-2", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FOREIGN_IDS = [
    {"role": "user", "content": "?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1-2", "content": "42"},
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
async def test_the_head_says_what_was_changed(path: str, stream: bool) -> None:
    fields: dict[str, Any] = {LIMITS[path]: 10**6, "stream": stream}
    if path in (CHAT, MESSAGES):
        fields["documents" if path == CHAT else "chat_template_kwargs"] = {"a": "a secret"}
    answer = await asked(FakeLlm(), path, rules=SMALL, **fields)
    assert answer.status_code == 200
    assert answer.headers["x-max-tokens-clamped"] == str(CONTEXT_TOKENS)
    assert answer.headers["x-rewrites"].startswith("normalised,max_tokens_clamped")
    warned = "x-request-warnings" in answer.headers
    assert warned == (path in (CHAT, MESSAGES)) and "secret" not in str(answer.headers)
    plain = await asked(FakeLlm(), path, rules=SMALL, stream=stream)
    told = {"x-max-tokens-clamped", "x-request-warnings", "x-rewrites"}
    assert plain.status_code == 200 and not told & set(plain.headers)


@pytest.mark.parametrize("path", ["/tokenize", f"{MESSAGES}/count_tokens"])
async def test_prompts_are_counted_as_they_would_be_read(path: str) -> None:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ""}] * 2
    count, plain = [
        (await asked(FakeLlm(), path, messages=given, chat_template_kwargs={"a": 1}))
        for given in (turns[:3], [turns[0], turns[0]])
    ]
    assert count.status_code == 200 and count.json() == plain.json()
    assert "chat_template_kwargs" in count.headers["x-request-warnings"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", TOOLS)
async def test_a_tool_with_a_long_name_has_it_in_the_answer(path: str, stream: bool) -> None:
    engine = FakeLlm()
    fields: dict[str, Any] = {"tools": [TOOLS[path]], "stream": stream}
    assert (await asked(engine, path, **fields)).status_code == 200
    shortened = short_name(engine)
    assert len(shortened) == 64
    called = [control("[TOOL_CALLS]"), *ids(shortened), control("[ARGS]"), *ids("{}")]
    answer = await asked(FakeLlm([Part([*called, EOS], "stop")]), path, **fields)
    assert LONG_NAME in answer.text and shortened not in answer.text


def short_name(engine: FakeLlm) -> str:
    """Returns the name of the only tool as the prompt has it."""
    (tool,) = engine.renderer.chats[0].chat_template_kwargs["tools"]
    return str(tool["function"]["name"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_tells_the_models_own_sampling(stream: bool) -> None:
    engine = FakeLlm(text("Hello"))
    engine.sampling = {"temperature": 0.15, "top_k": 5}
    answer = (await asked(engine, RESPONSES, stream=stream, top_p=0.5)).text
    told = [e["response"] for e in events_of(answer) if "response" in e] or [json.loads(answer)]
    assert {(one["temperature"], one["top_p"]) for one in told} == {(0.15, 0.5)}
    assert len(told) == (3 if stream else 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_is_separated_if_asked_for(stream: bool) -> None:
    written = "<think>\n3+4\n</think>\nSeven."
    fields: dict[str, Any] = {"reasoning_format": "separate", "stream": stream}
    answer = await asked(FakeLlm(text(written)), CHAT, **fields)
    assert reasoning_and_content(answer.text, stream) == ("3+4", "Seven.")
    whole = await asked(FakeLlm(text(written)), CHAT, stream=stream)
    assert reasoning_and_content(whole.text, stream) == ("", written)


@pytest.mark.parametrize(
    ("begun", "goes_on", "expected"),
    [
        ("<think>\n3+", "4\n</think>\nSeven.", ("4", "Seven.")),
        ("<think>\n3+4\n</think>\nSev", "en.", ("", "en.")),
    ],
)
async def test_reasoning_goes_on_where_the_clients_message_ends(
    begun: str, goes_on: str, expected: tuple[str, str]
) -> None:
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": begun}]
    answer = await asked(
        FakeLlm(text(goes_on)),
        CHAT,
        messages=messages,
        continue_final_message=True,
        rules=replace(RULES, reasoning="separate", thinks=True),
    )
    assert reasoning_and_content(answer.text, False) == expected


def reasoning_and_content(answer: str, stream: bool) -> tuple[str, str]:
    if stream:
        said = [event["choices"][0]["delta"] for event in events_of(answer)]
    else:
        said = [json.loads(answer)["choices"][0]["message"]]
    return (
        "".join(one.get("reasoning") or "" for one in said),
        "".join(one.get("content") or "" for one in said),
    )


async def test_an_error_speaks_of_the_clients_ids() -> None:
    engine = FakeLlm()
    said = f"Unexpected tool call id {nine_alphanumerics('call_1-2')}"
    engine.renderer.error = ValueError(said)
    engine.renderer.error.__cause__ = InvalidMessageStructureException(said)
    for path in (CHAT, "/tokenize"):
        answer = await asked(engine, path, messages=FOREIGN_IDS)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "Unexpected tool call id call_1-2"


async def test_the_default_system_prompt_is_in_the_prompt() -> None:
    plain, prompted = FakeLlm(), FakeLlm()
    system = [{"role": "system", "content": "Be brief."}]
    await asked(plain, CHAT, messages=[*system, *BODIES[CHAT]["messages"]])
    await asked(prompted, CHAT, rules=replace(RULES, system_prompt="Be brief."))
    assert plain.calls[0].prompt == prompted.calls[0].prompt


@pytest.mark.parametrize("path", BODIES)
async def test_what_cannot_be_meant_is_a_400_that_names_the_field(path: str) -> None:
    field = {
        CHAT: "chat_template",
        COMPLETIONS: "guided_json",
        RESPONSES: "conversation",
        MESSAGES: "mcp_servers",
    }[path]
    wrong: dict[str, Any] = {field: "a secret"}
    answer = await asked(FakeLlm(), path, **wrong)
    error = answer.json()["error"]
    assert answer.status_code == 400 and "secret" not in answer.text
    assert field in error["message"]
    if path != MESSAGES:
        assert (error["param"], error["code"]) == (field, "unsupported_parameter")

"""What answers the grammars allow, asked of llguidance as vLLM does."""

import functools
import json
import re
from typing import Any

import llguidance
import pytest
from mistral_common.guidance.tokenizer import from_mistral_tokenizer

from serving.mistral.grammar import CallableTool, ControlTokens, answer_grammar, answer_schema
from tests.mistral.tokenizers import tokenizer

CONTROL = ("[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]")
TOKENIZER = tokenizer("v13").instruct_tokenizer.tokenizer
CALLS, ARGS, THINK, END_THINK = map(TOKENIZER.get_special_token, CONTROL)
TOKENS = ControlTokens(CALLS, ARGS)
THINKING = ControlTokens(CALLS, ARGS, (THINK, END_THINK))
CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"City": {"type": "string", "maxLength": 9}},
}
F = CallableTool("f", CITY, strict=False)
G = CallableTool("g.h-1", CITY, strict=True)
CALL_F = '[TOOL_CALLS]f[ARGS]{"x": 1}'
CALL_G = '[TOOL_CALLS]g.h-1[ARGS]{"city": "Rome"}'
JSON = '{"city": "Rome"}'


@functools.cache
def vocabulary() -> Any:
    return from_mistral_tokenizer(tokenizer("v13"))


def allows(answer: str, **changes: Any) -> bool:
    """Whether the grammar allows this whole answer."""
    arguments: dict[str, Any] = {
        "tools": [F, G],
        "choice": "auto",
        "parallel": True,
        "text_schema": None,
        "tokens": TOKENS,
    }
    arguments |= changes
    if arguments["tools"] or arguments["tokens"].reasoning:
        grammar = llguidance.grammar_from("lark", answer_grammar(**arguments))
    else:
        schema = answer_schema(arguments["text_schema"])
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema)
    matcher = llguidance.LLMatcher(vocabulary(), grammar)
    assert not matcher.is_error(), matcher.get_error()
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, CONTROL))})", answer):
        special = part in CONTROL
        ids += (
            [TOKENIZER.get_special_token(part)] if special else TOKENIZER.encode(part, False, False)
        )
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


@pytest.mark.parametrize("answer", ["Hello\nyou", CALL_F, CALL_G, CALL_F + CALL_G, "Yes." + CALL_F])
def test_text_and_calls_are_free_to_choose(answer: str) -> None:
    assert allows(answer)


@pytest.mark.parametrize("answer", ["Hello", "Yes." + CALL_F])
def test_a_required_call_has_no_text_before_it(answer: str) -> None:
    assert allows(CALL_G + CALL_G, choice="required")
    assert not allows(answer, choice="required")


def test_one_call_where_calls_are_not_parallel() -> None:
    assert allows(CALL_F, parallel=False)
    assert not allows(CALL_F + CALL_G, parallel=False)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_only_given_tools_are_called(choice: str) -> None:
    for name in ("other", "f2", "g"):
        assert not allows(f"[TOOL_CALLS]{name}[ARGS]{JSON}", choice=choice)


def test_strict_arguments_obey_their_schema_and_its_definitions() -> None:
    assert not allows('[TOOL_CALLS]g.h-1[ARGS]{"x": 1}')
    assert not allows('[TOOL_CALLS]g.h-1[ARGS]{"city": "Constantinople"}')
    assert allows("[TOOL_CALLS]n[ARGS]{}", tools=[CallableTool("n", None, strict=True)])


def test_text_beside_tools_obeys_its_schema_and_calls_stay_possible() -> None:
    assert allows(JSON, text_schema=CITY)
    assert allows(CALL_F, text_schema=CITY)
    assert not allows("Hello", text_schema=CITY)
    assert not allows(JSON + CALL_F, text_schema=CITY)
    assert not allows(JSON, text_schema=CITY, choice="required")


def test_json_without_tools() -> None:
    assert allows(JSON, tools=[], text_schema=CITY)
    assert not allows(CALL_F, tools=[], text_schema=CITY)


@pytest.mark.parametrize("gap", ["", "  ", "\n", "\t"])
def test_white_space_is_that_of_python(gap: str) -> None:
    text = json.dumps({"x": 1, "y": [1, 2]})
    assert allows(text, tools=[], text_schema={"type": "object"})
    for other in (text.replace(" ", gap), gap + text, text + gap):
        assert other == text or not allows(other, tools=[], text_schema={"type": "object"})


def test_options_for_guidance_of_the_schema_itself_are_kept() -> None:
    schema = CITY | {"x-guidance": {"item_separator": ",", "key_separator": ":"}}
    assert allows(json.dumps({"city": "Rome"}, separators=(",", ":")), tools=[], text_schema=schema)
    assert not allows(JSON, tools=[], text_schema=schema)
    assert allows(JSON, tools=[], text_schema=CITY | {"x-guidance": "no options"})


def test_arguments_of_a_required_call_obey_the_schema_as_far_as_it_is_understood() -> None:
    assert not allows('[TOOL_CALLS]f[ARGS]{"x": 1}', choice="required")
    unknown = CITY | {"propertyNames": {"pattern": "(?=c)c.*"}}
    tool = CallableTool("f", unknown, strict=False)
    assert allows('[TOOL_CALLS]f[ARGS]{"city": "Rome"}', choice="required", tools=[tool])


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "schema",
    [
        {"properties": CITY["properties"], "$defs": CITY["$defs"]},
        CITY | {"type": ["object", "null"]},
        {"anyOf": [CITY, {"type": "null"}], "$defs": CITY["$defs"]},
        {
            "$ref": "#/$defs/Call",
            "$defs": {"Call": CITY, "City": {"type": "string", "maxLength": 9}},
        },
    ],
)
def test_arguments_are_an_object(schema: Any, strict: bool) -> None:
    tools = [CallableTool("f", schema, strict)]
    assert allows(f"[TOOL_CALLS]f[ARGS]{JSON}", choice="required", tools=tools)
    for other in ("null", "1", '{"city": 1}'):
        assert not allows(f"[TOOL_CALLS]f[ARGS]{other}", choice="required", tools=tools)


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        ('[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}]', {}),
        ('Yes.[TOOL_CALLS][{"name": "f", "arguments": {}, "id": "a1B2c3D4e"}]', {}),
        (f'[TOOL_CALLS][{{"name": "g.h-1", "arguments": {JSON}}}]', {"choice": "required"}),
        (f'[TOOL_CALLS][{{"name": "g.h-1", "arguments": {JSON}}}]', {"text_schema": CITY}),
    ],
)
def test_calls_of_v7_are_one_array(answer: str, changes: dict[str, Any]) -> None:
    tokens = ControlTokens(TOKENS.tool_calls, None)
    assert allows(answer, tokens=tokens, **changes)
    call = answer[answer.index("[{") + 1 : -1]
    two = answer[:-1] + ", " + call + "]"
    assert allows(two, tokens=tokens, **changes)
    assert not allows(two, tokens=tokens, parallel=False, **changes)
    assert json.loads(two[two.index("[{") :])[1]["name"] in ("f", "g.h-1")
    assert not allows(answer.replace('"name": "', '"name": "no'), tokens=tokens, **changes)


THOUGHT = "[THINK]Let me see.\n\nYes: {}[/THINK]"


@pytest.mark.parametrize(
    ("rest", "changes"),
    [
        ("Hello", {}),
        (CALL_F + CALL_G, {}),
        ("Yes." + CALL_F, {}),
        (CALL_G, {"choice": "required"}),
        (JSON, {"text_schema": CITY}),
        (CALL_F, {"text_schema": CITY}),
        (CALL_G, {"text_schema": CITY, "choice": "required"}),
        (JSON, {"text_schema": CITY, "tools": []}),
    ],
)
def test_reasoning_may_come_first(rest: str, changes: dict[str, Any]) -> None:
    for thought in ("", THOUGHT, "[THINK][/THINK]"):
        assert allows(thought + rest, tokens=THINKING, **changes)
    assert not allows(THOUGHT + THOUGHT + rest, tokens=THINKING, **changes)
    assert not allows(rest + THOUGHT, tokens=THINKING, **changes)
    assert not allows(THOUGHT, tokens=THINKING, **changes)
    assert not allows("[THINK]Let me see." + rest, tokens=THINKING, **changes)
    if changes.get("tools", True):
        assert not allows(THOUGHT + rest, **changes)


@pytest.mark.parametrize("changes", [{}, {"choice": "required"}, {"text_schema": CITY}])
def test_what_follows_reasoning_is_restricted(changes: dict[str, Any]) -> None:
    for answer in ("[TOOL_CALLS]other[ARGS]{}", "[TOOL_CALLS]f[ARGS][]"):
        assert not allows(THOUGHT + answer, tokens=THINKING, **changes)
    assert allows(THOUGHT + "Hello", tokens=THINKING, **changes) == (not changes)


def test_calls_of_v7_may_follow_reasoning_too() -> None:
    tokens = ControlTokens(CALLS, None, (THINK, END_THINK))
    assert allows(THOUGHT + '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}]', tokens=tokens)

"""What answers the grammars allow, asked of llguidance as vLLM does."""

import functools
import json
import re
from typing import Any

import llguidance
import pytest
from mistral_common.guidance.tokenizer import from_mistral_tokenizer

from serving.mistral.grammar import CallableTool, CallTokens, answer_grammar
from tests.mistral.tokenizers import tokenizer

TOKENIZER = tokenizer("v11").instruct_tokenizer.tokenizer
TOKENS = CallTokens(*map(TOKENIZER.get_special_token, ("[TOOL_CALLS]", "[ARGS]")))
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
    return from_mistral_tokenizer(tokenizer("v11"))


def allows(answer: str, **changes: Any) -> bool:
    """Whether the grammar allows this whole answer."""
    arguments: dict[str, Any] = {
        "tools": [F, G],
        "choice": "auto",
        "parallel": True,
        "text_schema": None,
        "tokens": TOKENS,
    }
    grammar = answer_grammar(**arguments | changes)
    matcher = llguidance.LLMatcher(vocabulary(), llguidance.grammar_from("lark", grammar))
    assert not matcher.is_error(), matcher.get_error()
    ids: list[int] = []
    for part in re.split(r"(\[TOOL_CALLS\]|\[ARGS\])", answer):
        special = part in ("[TOOL_CALLS]", "[ARGS]")
        ids += (
            [TOKENIZER.get_special_token(part)] if special else TOKENIZER.encode(part, False, False)
        )
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


@pytest.mark.parametrize("answer", ["Hello\nyou", CALL_F, CALL_G, CALL_F + CALL_G, "Yes." + CALL_F])
def test_text_and_calls_are_free_to_choose(answer: str) -> None:
    assert allows(answer)


@pytest.mark.parametrize("answer", ["Hello", "Yes." + CALL_F])
def test_a_required_call_has_no_text_before_it(answer: str) -> None:
    assert allows(CALL_F + CALL_G, choice="required")
    assert not allows(answer, choice="required")


def test_one_call_where_calls_are_not_parallel() -> None:
    assert allows(CALL_F, parallel=False)
    assert not allows(CALL_F + CALL_G, parallel=False)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_only_given_tools_are_called(choice: str) -> None:
    assert not allows('[TOOL_CALLS]other[ARGS]{"x": 1}', choice=choice)
    assert not allows('[TOOL_CALLS]f2[ARGS]{"x": 1}', choice=choice)


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


@pytest.mark.parametrize("gap", ["  ", "\n", "\t"])
def test_white_space_is_bounded(gap: str) -> None:
    values = '{"x": 1, "y": [1, 2]}', '{"x":1,"y":[1,2]}'
    for text in values:
        assert allows(text, tools=[], text_schema={"type": "object"})
    for text in (values[0].replace(" ", gap), gap + values[1], values[1] + gap):
        assert not allows(text, tools=[], text_schema={"type": "object"})


def test_options_for_guidance_of_the_schema_itself_are_kept() -> None:
    schema = CITY | {"x-guidance": {"item_separator": ",", "key_separator": ":"}}
    assert allows(json.dumps({"city": "Rome"}, separators=(",", ":")), tools=[], text_schema=schema)
    assert not allows(JSON, tools=[], text_schema=schema)

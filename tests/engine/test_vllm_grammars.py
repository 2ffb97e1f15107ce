"""Which requests have a grammar, and what is left to vLLM."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.parser.mistral import MistralParser
from vllm.parser.parser_manager import ParserManager

from serving.engine.vllm.grammars import constrain_answers

PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"name": "f", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
OTHER = {"type": "function", "function": {"name": "g"}}
NAMED = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "object", "properties": {"capital": {"type": "string"}}}
FORM = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}}

Adjust = Callable[..., Any]


@pytest.fixture
def adjust(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> Adjust:
    """Returns a function that adjusts a chat completion with these fields, or another request."""
    for owner, name in (
        (MistralParser, "adjust_request"),
        (ResponsesRequest, "extract_structured_outputs"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    constrain_answers.__wrapped__()

    def adjusted(request: Any = None, **fields: Any) -> Any:
        if request is None:
            message = {"role": "user", "content": "?"}
            request = ChatCompletionRequest(messages=[message], request_id="1", **fields)
        parser = ParserManager.get_parser("mistral", None, True, "m")(tokenizer, request.tools)
        return parser.adjust_request(request)

    return adjusted


def responses(**fields: Any) -> ResponsesRequest:
    return TypeAdapter(ResponsesRequest).validate_python({"input": "?", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [TOOL], "tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"logit_bias": {"7": 1.0}},
    ],
)
def test_free_text_has_no_grammar_and_no_calls(
    adjust: Adjust, tokenizer: Any, fields: dict[str, Any]
) -> None:
    request = adjust(**fields)
    assert request.structured_outputs is None
    calls = tokenizer.tokenizer.get_special_token("[TOOL_CALLS]")
    assert request.logit_bias == {**fields.get("logit_bias", {}), str(calls): -100.0}


def test_a_response_of_free_text_has_no_calls_either(adjust: Adjust, tokenizer: Any) -> None:
    calls = tokenizer.tokenizer.get_special_token("[TOOL_CALLS]")
    assert adjust(responses()).logit_bias == {str(calls): -100.0}


@pytest.mark.parametrize(
    ("choice", "has_text", "names"),
    [("auto", True, "fg"), (None, True, "fg"), ("required", False, "fg"), (NAMED, False, "f")],
)
def test_a_choice_allows_text_and_names_tools(
    adjust: Adjust, choice: Any, has_text: bool, names: str
) -> None:
    request = adjust(tools=[TOOL, OTHER], tool_choice=choice)
    grammar = request.structured_outputs.grammar
    assert ("text" in grammar) == has_text
    for name in "fg":
        quoted = f'"{name}"' in grammar.replace("\\", "")
        assert quoted == (name in names)
    assert not request.skip_special_tokens


def test_a_response_has_the_grammar_of_the_same_chat(adjust: Adjust) -> None:
    flat = {"type": "function", **FUNCTION}
    form = {"type": "json_schema", "name": "c", "schema": SCHEMA}
    for choice, named in (("auto", "auto"), ("required", "required"), (flat, NAMED)):
        response = adjust(responses(tools=[flat], tool_choice=choice, text={"format": form}))
        chat = adjust(tools=[TOOL], tool_choice=named, response_format=FORM)
        grammar = response.extract_structured_outputs().grammar
        assert grammar == chat.structured_outputs.grammar
        assert response.text.format.schema_ == SCHEMA  # the response repeats it
        assert not response.skip_special_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": FORM},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json_object": True}},
        {"response_format": FORM, "tools": [TOOL], "tool_choice": "none"},
    ],
)
def test_json_without_calls_is_json_alone(adjust: Adjust, fields: dict[str, Any]) -> None:
    request = adjust(**fields)
    assert request.structured_outputs.grammar.startswith("start: %json {")
    assert "calls" not in request.structured_outputs.grammar
    assert request.response_format is None


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": "a+"}},
        {"structured_outputs": {"choice": ["a", "b"]}, "tools": [TOOL]},
    ],
)
def test_a_form_of_vllms_own_is_as_it_was(adjust: Adjust, fields: dict[str, Any]) -> None:
    request = adjust(**fields)
    assert request.structured_outputs.grammar is None


def test_an_answer_that_goes_on_may_end_at_once(adjust: Adjust) -> None:
    request = adjust(tools=[TOOL], continue_final_message=True, add_generation_prompt=False)
    assert request.structured_outputs is None
    assert request.logit_bias is None

"""Which answers have a grammar, and which; vLLM accepts each."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from vllm.sampling_params import SamplingParams
from vllm.v1.structured_output.backend_guidance import validate_guidance_grammar

from serving.answers.vocabulary import Vocabulary
from serving.engine.vllm.constraints import logit_bias, structured_outputs
from serving.requests import chat, completions, messages, responses
from serving.requests.request import Request
from tests.answers import parsing
from tests.support.reading import READING

PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
FLAT = [{"type": "function", "name": name, "parameters": PARAMETERS} for name in "fg"]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in "fg"
]
INPUT_TOOLS = [{"name": name, "input_schema": PARAMETERS} for name in "fg"]
SCHEMA = {"type": "object", "properties": {"capital": {"type": "string"}}}
FORM = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}}
USER = [{"role": "user", "content": "?"}]

Reader = Callable[..., Request]


def of_chat(**fields: Any) -> Request:
    return chat.read(json.dumps({"messages": USER, **fields}).encode(), *READING)[0]


def of_completion(**fields: Any) -> Request:
    return completions.read(json.dumps({"prompt": "?", **fields}).encode(), *READING)[0]


def of_response(**fields: Any) -> Request:
    return responses.read(json.dumps({"input": "?", **fields}).encode(), *READING)[0]


def of_message(**fields: Any) -> Request:
    body = {"messages": USER, "max_tokens": 9, **fields}
    return messages.read(json.dumps(body).encode(), *READING)[0]


@pytest.fixture(params=["v7", "v11"])
def words(request: pytest.FixtureRequest) -> Vocabulary:
    return parsing.vocabulary(request.param)


def grammar_of(request: Request, words: Vocabulary) -> str | None:
    """Returns the grammar of the answer, which vLLM and llguidance must accept."""
    constraint = structured_outputs(request, words)
    if constraint is None:
        return None
    validate_guidance_grammar(SamplingParams(structured_outputs=constraint))
    grammar: str | None = constraint.grammar
    return grammar


@pytest.mark.parametrize(
    "request_of",
    [
        of_chat,
        of_response,
        of_message,
        lambda: of_chat(tools=TOOLS, tool_choice="none"),
        lambda: of_chat(response_format={"type": "text"}),
        lambda: of_response(tools=FLAT, tool_choice="none"),
        lambda: of_message(tools=INPUT_TOOLS, tool_choice={"type": "none"}),
    ],
)
def test_free_text_has_no_grammar_and_cannot_begin_a_call(
    words: Vocabulary, request_of: Reader
) -> None:
    request = request_of()
    assert structured_outputs(request, words) is None
    assert logit_bias(request, words) == {words.tool_calls: -100.0}


def test_a_requests_own_biases_stay(words: Vocabulary) -> None:
    request = of_chat(logit_bias={"7": 1})
    assert logit_bias(request, words) == {7: 1.0, words.tool_calls: -100.0}
    assert request.sampling.logit_bias == {7: 1.0}


def test_a_completion_is_as_the_model_goes_on(words: Vocabulary) -> None:
    assert structured_outputs(of_completion(), words) is None
    assert logit_bias(of_completion(), words) is None


NAMED = {"type": "function", "function": {"name": "f"}}
ONE = {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("request_of", "has_text", "names"),
    [
        (lambda: of_chat(tools=TOOLS), True, "fg"),
        (lambda: of_chat(tools=TOOLS, tool_choice="auto"), True, "fg"),
        (lambda: of_chat(tools=TOOLS, tool_choice="required"), False, "fg"),
        (lambda: of_chat(tools=TOOLS, tool_choice=NAMED), False, "f"),
        (lambda: of_response(tools=FLAT), True, "fg"),
        (lambda: of_response(tools=FLAT, tool_choice="required"), False, "fg"),
        (lambda: of_response(tools=FLAT, tool_choice=ONE), False, "f"),
        (lambda: of_message(tools=INPUT_TOOLS), True, "fg"),
        (lambda: of_message(tools=INPUT_TOOLS, tool_choice={"type": "any"}), False, "fg"),
        (
            lambda: of_message(tools=INPUT_TOOLS, tool_choice={"type": "tool", "name": "f"}),
            False,
            "f",
        ),
    ],
)
def test_a_choice_allows_text_and_names_tools(
    words: Vocabulary, request_of: Reader, has_text: bool, names: str
) -> None:
    request = request_of()
    grammar = grammar_of(request, words)
    assert grammar is not None
    assert ("text" in grammar) == has_text
    for name in "fg":
        assert (f'"{name}"' in grammar.replace("\\", "")) == (name in names)
    assert logit_bias(request, words) is None


def test_one_call_where_calls_are_not_parallel(words: Vocabulary) -> None:
    many = grammar_of(of_chat(tools=TOOLS), words)
    one = grammar_of(of_chat(tools=TOOLS, parallel_tool_calls=False), words)
    assert one != many
    assert one == grammar_of(of_response(tools=FLAT, parallel_tool_calls=False), words)
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert one == grammar_of(of_message(tools=INPUT_TOOLS, tool_choice=choice), words)


@pytest.mark.parametrize(("choice", "named"), [("auto", "auto"), (ONE, NAMED)])
def test_a_response_has_the_grammar_of_the_same_chat(
    words: Vocabulary, choice: Any, named: Any
) -> None:
    form = {"format": {"type": "json_schema", "name": "c", "schema": SCHEMA}}
    response = of_response(tools=FLAT, tool_choice=choice, text=form)
    same = of_chat(tools=TOOLS, tool_choice=named, response_format=FORM)
    assert grammar_of(response, words) == grammar_of(same, words)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: of_chat(response_format=FORM),
        lambda: of_chat(response_format={"type": "json_object"}),
        lambda: of_chat(structured_outputs={"json": SCHEMA}),
        lambda: of_chat(structured_outputs={"json_object": True}),
        lambda: of_chat(response_format=FORM, tools=TOOLS, tool_choice="none"),
        lambda: of_completion(response_format=FORM),
        lambda: of_response(text={"format": {"type": "json_object"}}),
        lambda: of_message(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
    ],
)
def test_json_without_calls_is_json_alone(words: Vocabulary, request_of: Reader) -> None:
    constraint = structured_outputs(request_of(), words)
    assert constraint is not None and constraint.grammar is None
    assert json.loads(constraint.json)["x-guidance"]["whitespace_flexible"] is False
    validate_guidance_grammar(SamplingParams(structured_outputs=constraint))
    assert logit_bias(request_of(), words) is None


def test_json_beside_tools_leaves_calls_possible(words: Vocabulary) -> None:
    grammar = grammar_of(of_chat(response_format=FORM, tools=TOOLS), words)
    assert grammar is not None and "calls" in grammar and "capital" in grammar


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
        ({"structured_outputs": {"choice": ["a"]}, "tools": TOOLS}, "choice", ["a"]),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, "grammar", 'start: "a"'),
    ],
)
def test_a_form_of_vllms_own_is_as_it_is(
    words: Vocabulary, fields: dict[str, Any], name: str, value: Any
) -> None:
    request = of_chat(**fields)
    constraint = structured_outputs(request, words)
    assert constraint is not None and getattr(constraint, name) == value
    names = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
    assert [other for other in names if getattr(constraint, other) is not None] == [name]
    assert logit_bias(request, words) is None


def test_an_answer_that_goes_on_may_end_at_once(words: Vocabulary) -> None:
    goes_on = [*USER, {"role": "assistant", "content": "Hel"}]
    fields: dict[str, Any] = {"messages": goes_on, "continue_final_message": True}
    request = of_chat(**fields, tools=TOOLS)
    assert structured_outputs(request, words) is None
    assert logit_bias(request, words) is None
    required = of_chat(**fields, tools=TOOLS, tool_choice="required")
    assert grammar_of(required, words) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": NAMED},
        {"tools": TOOLS, "response_format": FORM},
        {"response_format": FORM},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_an_answer_may_begin_with_reasoning(fields: dict[str, Any]) -> None:
    words = parsing.vocabulary("v13")
    think = f"reasoning: <[{words.think}]> text? <[{words.end_think}]>"
    grammar = grammar_of(of_chat(**fields), words)
    assert grammar is not None and think in grammar
    without = grammar_of(of_chat(**fields), parsing.vocabulary("v11"))
    assert without is None or "reasoning" not in without


def test_what_continues_a_text_has_no_reasoning() -> None:
    words = parsing.vocabulary("v13")
    goes_on = [*USER, {"role": "assistant", "content": "Hel"}]
    fields: dict[str, Any] = {"messages": goes_on, "continue_final_message": True}
    assert structured_outputs(of_chat(**fields, tools=TOOLS), words) is None
    required = grammar_of(of_chat(**fields, tools=TOOLS, tool_choice="required"), words)
    assert required is not None and "reasoning" not in required
    completion = structured_outputs(of_completion(response_format=FORM), words)
    assert completion is not None and completion.json is not None

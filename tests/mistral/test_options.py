import datetime
from typing import Any

import pytest

from serving.mistral import InvalidRequest, ModelRules, Normalised, normalise
from tests.mistral.tokenizers import rules

TODAY = datetime.date(2026, 3, 1)
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def normalised(
    endpoint: str, model: ModelRules | None = None, /, **fields: Any
) -> tuple[dict[str, Any], Normalised]:
    done = normalise(endpoint, fields, model or rules(), TODAY)
    return fields, done


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (CHAT, "max_tokens"),
        (CHAT, "max_completion_tokens"),
        ("/v1/completions", "max_tokens"),
        (RESPONSES, "max_output_tokens"),
        (MESSAGES, "max_tokens"),
    ],
)
@pytest.mark.parametrize("limit", [1001, 131072, "131072", 1e9])
def test_a_limit_above_the_context_is_the_context(endpoint: str, field: str, limit: Any) -> None:
    body, done = normalised(endpoint, rules(other_server=False), **{field: limit})
    assert body == {field: 1000}
    assert done.max_tokens_clamped == 1000


@pytest.mark.parametrize("limit", [1, 1000, 0, -1, "7", "many", True, []])
def test_any_other_limit_is_the_clients(limit: Any) -> None:
    body, done = normalised(CHAT, max_tokens=limit)
    assert body["max_tokens"] is limit
    assert (done.changed, done.max_tokens_clamped) == (False, None)


@pytest.mark.parametrize(
    ("endpoint", "field"), [(CHAT, "max_tokens"), (RESPONSES, "max_output_tokens")]
)
def test_a_request_without_a_limit_gets_the_models(endpoint: str, field: str) -> None:
    body, _ = normalised(endpoint, rules(max_tokens=500))
    assert body == {field: 500}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_models_limit_is_not_over_the_clients(field: str) -> None:
    body, done = normalised(CHAT, rules(max_tokens=500, other_server=False), **{field: 700})
    assert (body, done.changed) == ({field: 700}, False)


def test_a_models_limit_of_its_whole_context_changes_nothing() -> None:
    body, done = normalised(CHAT, rules(max_tokens=1000))
    assert (body, done.changed) == ({}, False)


@pytest.mark.parametrize("endpoint", [CHAT, "/tokenize"])
def test_a_chat_template_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match="no chat template") as raised:
        normalised(endpoint, chat_template="{{ messages }}")
    assert raised.value.param == "chat_template"


@pytest.mark.parametrize("name", ["chat_template_kwargs", "documents"])
@pytest.mark.parametrize("value", [{}, {"enable_thinking": False}, [{"text": "x"}]])
def test_what_only_a_template_could_read_is_dropped_with_a_warning(name: str, value: Any) -> None:
    body, done = normalised(CHAT, **{name: value})
    assert body == {}
    (warning,) = done.warnings
    assert name in warning and "enable_thinking" not in warning


@pytest.mark.parametrize(
    "harmless",
    [
        {"add_generation_prompt": True},
        {"add_special_tokens": False},
        {"parallel_tool_calls": False},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "high"},
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": True},
        {"repetition_detection": {"max_pattern_size": 3, "min_count": 9}},
    ],
)
def test_what_vllm_takes_stays(harmless: dict[str, Any]) -> None:
    body, done = normalised(CHAT, **harmless)
    assert body == harmless
    assert (done.changed, done.warnings) == (False, ())


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "xhigh", "max"])
def test_efforts_that_vllm_rejects_are_dropped_with_a_warning(effort: str) -> None:
    body, done = normalised(CHAT, reasoning_effort=effort)
    assert body == {} and len(done.warnings) == 1
    body, done = normalised(MESSAGES, output_config={"effort": effort, "x": 1})
    assert body == {"output_config": {"x": 1}} and len(done.warnings) == 1


@pytest.mark.parametrize(
    ("endpoint", "fields", "warned"),
    [
        (CHAT, {"verbosity": "low"}, "verbosity"),
        *(
            (
                endpoint,
                {"structured_outputs": {"json": {}, "whitespace_pattern": " "}},
                "structured_outputs.whitespace_pattern",
            )
            for endpoint in (CHAT, "/v1/completions", RESPONSES)
        ),
        (RESPONSES, {"text": {"verbosity": "high"}}, "text.verbosity"),
        (RESPONSES, {"reasoning": {"effort": "xhigh"}}, "reasoning.effort"),
        (RESPONSES, {"context_management": [{"type": "compaction"}]}, "context_management"),
        (MESSAGES, {"context_management": {"edits": []}}, "context_management"),
        (MESSAGES, {"fallbacks": [{"model": "other"}]}, "fallbacks"),
        (MESSAGES, {"fallbacks": "default"}, "fallbacks"),
    ],
)
def test_what_has_no_effect_is_told(endpoint: str, fields: dict[str, Any], warned: str) -> None:
    body, done = normalised(endpoint, **fields)
    assert (body, done.changed) == (fields, False)
    assert done.warnings == (f"{warned} has no effect on this model",)


@pytest.mark.parametrize(
    ("endpoint", "field", "value", "own"),
    [
        (CHAT, "max_output_tokens", 9, "max_completion_tokens"),
        ("/v1/completions", "max_completion_tokens", 9, "max_tokens"),
        (RESPONSES, "max_tokens", 9, "max_output_tokens"),
        (RESPONSES, "logprobs", True, 'include with "message.output_text.logprobs"'),
        (MESSAGES, "stop", ["a"], "stop_sequences"),
    ],
)
def test_what_another_api_calls_otherwise_is_told(
    endpoint: str, field: str, value: Any, own: str
) -> None:
    _, done = normalised(endpoint, **{field: value})
    assert done.warnings == (f"{field} has no effect: send {own}",)


@pytest.mark.parametrize(
    "fields", [{"text": {"verbosity": "medium"}}, {"reasoning": {"summary": "auto"}}, {"text": 5}]
)
def test_what_asks_for_nothing_special_is_not_told(fields: dict[str, Any]) -> None:
    assert normalised(RESPONSES, **fields)[1].warnings == ()


def test_the_former_name_of_anthropics_output_format() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    assert normalised(MESSAGES, output_format=schema)[0] == {"output_config": {"format": schema}}
    both = normalised(MESSAGES, output_format=schema, output_config={"effort": None})[0]
    assert both == {"output_config": {"format": schema, "effort": None}}


def test_what_a_search_would_add_to_a_response_is_dropped() -> None:
    include = ["web_search_call.action.sources", "message.output_text.logprobs"]
    body, _ = normalised(RESPONSES, rules(other_server=True), include=include)
    assert body == {"include": include[1:]}


@pytest.mark.parametrize("effort", ["wizard", 3, [], ""])
@pytest.mark.parametrize(
    ("endpoint", "field"),
    [(CHAT, "reasoning_effort"), (RESPONSES, "reasoning"), (MESSAGES, "output_config")],
)
def test_an_effort_that_no_api_defines_is_refused(endpoint: str, field: str, effort: Any) -> None:
    value = effort if endpoint == CHAT else {"effort": effort}
    with pytest.raises(InvalidRequest, match="medium") as raised:
        normalised(endpoint, **{field: value})
    assert (raised.value.param, raised.value.code) == (field, "invalid_value")


@pytest.mark.parametrize("kind", ["enabled", "disabled", "adaptive"])
def test_anthropics_thinking_is_dropped_with_a_warning(kind: str) -> None:
    body, done = normalised(MESSAGES, thinking={"type": kind, "budget_tokens": 2000})
    assert body == {} and len(done.warnings) == 1


@pytest.mark.parametrize("default", ["content", "separate"])
@pytest.mark.parametrize("asked", ["content", "separate", None])
def test_reasoning_comes_where_the_request_or_else_the_model_says(
    default: Any, asked: str | None
) -> None:
    body, done = normalised(CHAT, rules(reasoning=default), reasoning_format=asked)
    assert body == {}
    assert done.answer.separate_reasoning == ((asked or default) == "separate")


def test_a_reasoning_format_that_there_is_not() -> None:
    with pytest.raises(InvalidRequest, match="separate"):
        normalised(CHAT, reasoning_format="hidden")


def test_false_switches_the_loop_guard_off() -> None:
    assert normalised(CHAT, repetition_detection=False)[0] == {
        "repetition_detection": {"max_pattern_size": 0}
    }

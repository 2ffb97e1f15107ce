from typing import Any

import pytest

from serving.mistral import InvalidRequest
from tests.mistral.test_options import CHAT, MESSAGES, RESPONSES, TOOL, normalised
from tests.mistral.tokenizers import rules

COMPLETIONS = "/v1/completions"
FUNCTION = {"name": "f", "parameters": {}}


def refused(endpoint: str, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        normalised(endpoint, **fields)
    assert raised.value.param is not None
    assert raised.value.param in raised.value.message
    return raised.value


@pytest.mark.parametrize(
    ("endpoint", "field", "value"),
    [
        (CHAT, "functions", [FUNCTION]),
        (CHAT, "function_call", {"name": "f"}),
        (CHAT, "web_search_options", {}),
        (CHAT, "audio", {"voice": "alloy", "format": "wav"}),
        (CHAT, "modalities", ["text", "audio"]),
        (CHAT, "guided_json", {"type": "object"}),
        (CHAT, "guided_regex", "a+"),
        (COMPLETIONS, "guided_choice", ["a"]),
        (COMPLETIONS, "best_of", 3),
        (CHAT, "best_of", 3),
        (CHAT, "use_beam_search", True),
        (COMPLETIONS, "use_beam_search", True),
        (COMPLETIONS, "tools", [FUNCTION]),
        (RESPONSES, "response_format", {"type": "json_object"}),
        (RESPONSES, "functions", [FUNCTION]),
        (RESPONSES, "guided_json", {"type": "object"}),
        (MESSAGES, "response_format", {"type": "json_schema"}),
        (MESSAGES, "structured_outputs", {"json": {}}),
        (MESSAGES, "function_call", {"name": "f"}),
        (RESPONSES, "conversation", "conv_1"),
        (RESPONSES, "conversation", {"id": "conv_1"}),
        (RESPONSES, "prompt", {"id": "pmpt_1"}),
        (MESSAGES, "mcp_servers", [{"type": "url", "url": "https://example.com", "name": "x"}]),
        (MESSAGES, "container", "container_1"),
        (MESSAGES, "compaction", {"type": "summarize"}),
        (MESSAGES, "thread", {"type": "create"}),
        ("/v1/messages/count_tokens", "thread", {"type": "continue"}),
        (CHAT, "moderation", {"model": "omni-moderation-latest"}),
        (CHAT, "guardrails", [{"block_on_error": True}]),
        (RESPONSES, "moderation", {"model": "omni-moderation-latest"}),
        (MESSAGES, "system", [{"type": "text", "text": "a"}, {"type": "image", "source": {}}]),
    ],
)
def test_what_nobody_here_can_do_is_refused_by_name(endpoint: str, field: str, value: Any) -> None:
    error = refused(endpoint, **{field: value})
    assert (error.param, error.code) == (field, "unsupported_parameter")


@pytest.mark.parametrize(
    ("endpoint", "harmless"),
    [
        (CHAT, {"function_call": "auto"}),
        (RESPONSES, {"response_format": {"type": "text"}, "functions": []}),
        (COMPLETIONS, {"tools": []}),
        (CHAT, {"functions": []}),
        (CHAT, {"use_beam_search": False, "logprob_token_ids": [], "best_of": 1}),
        (CHAT, {"modalities": ["text"]}),
        (CHAT, {"metadata": {"a": "b"}, "user": "me", "store": True, "service_tier": "flex"}),
        (CHAT, {"prediction": {"type": "content", "content": "x"}, "safety_identifier": "x"}),
        (COMPLETIONS, {"best_of": 1}),
        (COMPLETIONS, {"best_of": 2, "n": 2}),
        (RESPONSES, {"background": False, "store": True, "metadata": {}, "max_tool_calls": 3}),
        (RESPONSES, {"include": ["reasoning.encrypted_content"], "prompt_cache_key": "x"}),
        ("/v1/messages/count_tokens", {"compaction": {"type": "summarize"}}),
        (MESSAGES, {"fallbacks": []}),
        (MESSAGES, {"mcp_servers": [], "metadata": {"user_id": "x"}, "service_tier": "auto"}),
        (MESSAGES, {"system": [{"type": "text", "text": "a", "cache_control": {}}]}),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": {}, "cache_control": {}}]}),
        (MESSAGES, {"tools": [{"type": "custom", "name": "f", "input_schema": {}}]}),
        (MESSAGES, {"stop_sequences": ["a", "b", "c", "d", "e"]}),
        (RESPONSES, {"tools": [{"type": "custom", "name": "f"}]}),
        (CHAT, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
        (RESPONSES, {"tools": [{"type": "namespace", "name": "n", "tools": [FUNCTION]}]}),
    ],
)
def test_what_changes_no_answer_passes(endpoint: str, harmless: dict[str, Any]) -> None:
    body, done = normalised(endpoint, **harmless)
    assert body == harmless
    assert (done.changed, done.warnings) == (False, ())


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES])
@pytest.mark.parametrize("field", ["regex", "ebnf", "grammar", "json_schema"])
def test_a_constraint_of_another_engines_is_refused(endpoint: str, field: str) -> None:
    own = rules(other_server=False)
    with pytest.raises(InvalidRequest, match="structured_outputs") as raised:
        normalised(endpoint, own, **{field: {"type": "object"} if "_" in field else "a"})
    assert raised.value.param == field
    for nothing in (None, ""):
        normalised(endpoint, own, **{field: nothing})
    body, _ = normalised(endpoint, rules(other_server=True), **{field: "a"})
    assert body == {field: "a"}


def test_an_answer_that_is_audio_is_refused_by_its_place() -> None:
    spoken = {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
    error = refused(CHAT, messages=[{"role": "user", "content": "Hi"}, spoken])
    assert (error.param, error.code) == ("messages", "unsupported_parameter")
    assert "messages[1].audio" in error.message and "content" in error.message


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        (CHAT, "web_search"),
        (RESPONSES, "mcp"),
        (RESPONSES, "file_search"),
        (RESPONSES, "code_interpreter"),
        (RESPONSES, "computer_use_preview"),
        (RESPONSES, "local_shell"),
        (MESSAGES, "code_execution_20250825"),
        (MESSAGES, "bash_20250124"),
    ],
)
def test_tools_that_only_their_service_runs_are_refused(endpoint: str, kind: str) -> None:
    known = {"name": "f"} if endpoint == MESSAGES else TOOL
    error = refused(endpoint, tools=[known, {"type": kind, "name": "x"}])
    assert error.param == "tools"
    assert "tools[1]" in error.message and kind in error.message


def test_a_hosted_tool_in_a_namespace_is_refused() -> None:
    inner = {"type": "mcp", "server_label": "x"}
    assert "mcp" in refused(RESPONSES, tools=[{"type": "namespace", "tools": [inner]}]).message


@pytest.mark.parametrize("choice", [{"type": "file_search"}, {"type": "mcp", "server_label": "x"}])
def test_the_choice_of_a_hosted_tool_is_refused(choice: dict[str, Any]) -> None:
    assert refused(RESPONSES, tools=[FUNCTION], tool_choice=choice).param == "tool_choice"


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    ],
)
def test_turns_of_the_api_before_tools_are_refused(turn: dict[str, Any]) -> None:
    error = refused(CHAT, messages=[{"role": "user", "content": "x"}, turn])
    assert error.param == "messages" and "messages[1]" in error.message


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (CHAT, "messages"),
        (MESSAGES, "messages"),
        ("/v1/messages/count_tokens", "messages"),
        (RESPONSES, "input"),
        (COMPLETIONS, "prompt"),
    ],
)
def test_an_empty_list_of_messages_is_refused_by_name(endpoint: str, field: str) -> None:
    assert refused(endpoint, **{field: []}).param == field


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES, MESSAGES])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("seed", 2**64),
        ("top_k", 2**70),
        ("stop_token_ids", [7, 2**64]),
        ("seed", str(2**70)),
        ("seed", str(-(2**63) - 1)),
        ("top_k", str(2**63)),
        ("priority", "9" * 5000),
        ("allowed_token_ids", ["7", str(2**64)]),
        ("logit_bias", {str(2**64): 1}),
        ("repetition_detection", {"max_pattern_size": 2**70, "min_count": 2}),
        ("repetition_detection", {"max_pattern_size": 2, "min_count": str(2**70)}),
        ("vllm_xargs", {"a": [{"b": 2**64}]}),
        ("temperature", float("inf")),
        ("top_p", float("nan")),
    ],
)
def test_numbers_that_no_engine_can_hold(endpoint: str, field: str, value: Any) -> None:
    error = refused(endpoint, **{field: value})
    assert (error.param, error.code) == (field, "invalid_value")


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63), str(2**63 - 1), str(-(2**63))])
def test_seeds_of_64_bits_pass(seed: int | str) -> None:
    assert not normalised(CHAT, seed=seed)[1].changed


@pytest.mark.parametrize(
    "fields",
    [{"user": "9" * 30}, {"vllm_xargs": {"a": "9" * 30}}, {"stop": ["9" * 30]}, {"seed": "9" * 18}],
)
def test_texts_of_many_digits_are_no_numbers(fields: dict[str, Any]) -> None:
    assert not normalised(CHAT, **fields)[1].changed


def test_a_limit_beyond_all_bounds_is_the_context() -> None:
    assert normalised(CHAT, max_tokens=2**70)[0] == {"max_tokens": 1000}


def test_a_custom_tool_that_another_server_does_not_know_is_refused_with_that_reason() -> None:
    tools = [{"type": "custom", "custom": {"name": "sh"}}]
    with pytest.raises(InvalidRequest) as raised:
        normalised(CHAT, rules("v11", other_server=True), tools=tools)
    assert raised.value.param == "tools" and "server does not know" in raised.value.message

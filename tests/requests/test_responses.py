import datetime
import json
from dataclasses import replace
from typing import Any

import pytest

from serving.mistral.rules import InvalidRequest
from serving.requests.request import JsonObject, OutputForm, StructuredOutputs
from serving.requests.responses import read
from tests.requests.response_requests import (
    CUSTOM,
    FUNCTION,
    SCHEMA,
    SPACE,
    reading,
    refused,
    request,
)
from tests.support.reading import READING, RULES


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": 5.5}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"truncation": "some"}, "truncation"),
        ({"include": ["everything"]}, "include"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"metadata": {"a": 1.5}}, "metadata"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"stream": "perhaps"}, "stream"),
        ({"text": {"format": {"type": "xml"}}}, "text"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{**FUNCTION, "parameters": "x"}]}, "tools"),
        ({"tools": [{**FUNCTION, "strict": "x"}]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "tools"),
        ({"tools": [FUNCTION], "tool_choice": "f"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ],
)
def test_wrong_fields_are_named(fields: JsonObject, param: str) -> None:
    assert refused(**fields).param == param


def test_a_request_needs_input() -> None:
    with pytest.raises(InvalidRequest, match="input"):
        read(b"{}", *READING)


@pytest.mark.parametrize(
    ("fields", "schema"),
    [
        ({}, None),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"format": {"type": "json_object"}}}, {"type": "object"}),
        ({"text": {"format": {"type": "json_object", "schema": SCHEMA}}}, SCHEMA),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}, SCHEMA),
        ({"structured_outputs": {"json": SCHEMA}}, SCHEMA),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, SCHEMA),
        ({"structured_outputs": {"json_object": True}}, {"type": "object"}),
    ],
)
def test_schemas(fields: JsonObject, schema: JsonObject | None) -> None:
    form = request(**fields).form
    assert (form and form.schema) == schema
    assert form is None or form.constraint is None


def test_other_constraints() -> None:
    made = request(structured_outputs={"regex": "a+"}, text={"format": {"type": "text"}})
    regex = StructuredOutputs(regex="a+")
    assert made.form == OutputForm("structured_outputs", constraint=regex)


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": "a", "choice": ["a"]}},
        {"structured_outputs": {"regex": "a"}, "text": {"format": {"type": "json_object"}}},
        {"structured_outputs": {"json": "{"}},
        {"structured_outputs": {"json": "[]"}},
    ],
)
def test_wrong_constraints_are_refused(fields: JsonObject) -> None:
    assert refused(**fields).param == "structured_outputs"


def test_parameters() -> None:
    made = request(
        model="m",
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        seed=7,
        logit_bias={"5": -100},
        stop="END",
        include_stop_str_in_output=True,
        truncation="auto",
        max_output_tokens=8,
        stream=True,
        cache_salt="s",
        priority=3,
    )
    assert (made.model, made.max_tokens, made.stream) == ("m", 8, True)
    assert (made.stop, made.include_stop_str_in_output) == (["END"], True)
    assert (made.truncate_prompt_tokens, made.cache_salt, made.priority) == (-1, "s", 3)
    sampling = made.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 5)
    assert (sampling.seed, sampling.logit_bias) == (7, {5: -100})


def test_defaults() -> None:
    made = request(truncation="disabled", tool_choice=None, temperature=None)
    assert (made.max_tokens, made.stream, made.truncate_prompt_tokens) == (None, False, None)
    assert made.sampling.temperature is None and made.tools.callable == ()


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({"top_logprobs": 3}, None),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, 3),
        ({"include": ["reasoning.encrypted_content"], "top_logprobs": 3}, None),
    ],
)
def test_log_probabilities(fields: JsonObject, logprobs: int | None) -> None:
    assert request(**fields).sampling.logprobs == logprobs


def test_the_response_repeats_fields() -> None:
    format = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
    fields = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tools": [FUNCTION],
        "text": {"format": format, "verbosity": "low"},
        "user": "u",
        "service_tier": "flex",
        "reasoning": {"effort": "high"},
    }
    _, options = reading(**fields)
    assert {key: options.echoed[key] for key in fields} == fields
    assert options.include_reasoning
    assert reading(include_reasoning=False)[1].include_reasoning is False


@pytest.mark.parametrize(
    ("reasoning", "of"),
    [
        ({"effort": "foo"}, "effort"),
        ({"effort": 3}, "effort"),
        ({"summary": "zzz"}, "summary"),
        ({"generate_summary": "zzz"}, "generate_summary"),
        ({"context": "zzz"}, "context"),
    ],
)
def test_reasoning_that_clients_could_not_read_back_is_refused(
    reasoning: dict[str, Any], of: str
) -> None:
    error = refused(reasoning=reasoning)
    assert error.param == "reasoning" and error.message.startswith(f"reasoning.{of}")


def test_what_is_repeated_is_what_openais_client_reads() -> None:
    reasoning = {"effort": "high", "summary": None, "mode": "standard", "more": 1}
    _, options = reading(reasoning=reasoning, prompt_cache_retention="in-memory")
    assert options.echoed["reasoning"] == {"effort": "high", "mode": "standard"}
    assert options.echoed["prompt_cache_retention"] == "in_memory"
    assert refused(prompt_cache_retention="1h").param == "prompt_cache_retention"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, (0.7, 0.95)),
        ({"temperature": None, "top_p": 0.5}, (0.7, 0.5)),
        ({"temperature": 0, "top_p": 1}, (0, 1)),
    ],
)
def test_the_response_tells_the_sampling_that_is_used(
    given: dict[str, Any], used: tuple[float, float]
) -> None:
    rules = replace(RULES, sampling={"temperature": 0.7, "top_p": 0.95})
    body = json.dumps({"input": "Hello", **given}).encode()
    _, options = read(body, rules, datetime.date(2026, 3, 1))
    assert (options.echoed["temperature"], options.echoed["top_p"]) == used
    assert reading()[1].echoed["temperature"] == 1.0


def test_custom_tools_are_repeated_with_their_format() -> None:
    grammar = {**CUSTOM, "format": {"type": "grammar", "syntax": "regex", "definition": "a"}}
    grammar["name"] = "g"
    _, options = reading(tools=[FUNCTION, CUSTOM, grammar, SPACE])
    function, custom, told, space = options.echoed["tools"]
    text = {"format": {"type": "text"}}
    assert (function, custom, told) == (FUNCTION, CUSTOM | text, grammar)
    assert space["tools"][1] == SPACE["tools"][1] | text


@pytest.mark.parametrize("count", [-1, 21])
def test_too_many_logprobs_are_told_by_the_clients_name(count: int) -> None:
    error = refused(top_logprobs=count, include=["message.output_text.logprobs"])
    assert (error.param, error.code) == ("top_logprobs", "invalid_value")


@pytest.mark.parametrize(
    "metadata",
    [
        {str(number): "" for number in range(17)},
        {"n" * 65: ""},
        {"name": "v" * 513},
    ],
)
def test_metadata_has_openais_limits(metadata: dict[str, str]) -> None:
    error = refused(metadata=metadata)
    assert (error.param, error.code) == ("metadata", "invalid_value")
    assert "16" in error.message and "512" in error.message and "64" in error.message


def test_metadata_within_the_limits_is_repeated() -> None:
    metadata = {f"{number:064}": "v" * 512 for number in range(16)}
    assert reading(metadata=metadata)[1].echoed["metadata"] == metadata

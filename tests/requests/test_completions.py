import json
from typing import Any

import pytest

from serving.mistral.rules import InvalidRequest
from serving.requests import completions
from serving.requests.request import RepetitionDetection, Request, Sampling, StructuredOutputs
from tests.requests.common_fields import OTHERS, SAMPLING
from tests.support.reading import READING


def read(**fields: Any) -> tuple[Request, completions.CompletionOptions]:
    return completions.read(json.dumps({"prompt": "Hello", **fields}).encode(), *READING)


def refused(**fields: Any) -> str | None:
    with pytest.raises(InvalidRequest) as error:
        read(**fields)
    return error.value.param


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("Hello", ["Hello"]),
        (["Hello", "12"], ["Hello", "12"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ([[1], "Hi"], [[1], "Hi"]),
    ],
)
def test_prompts(prompt: Any, prompts: Any) -> None:
    request, options = read(prompt=prompt)
    assert request.prompt == prompts and options.prompts == len(prompts)


@pytest.mark.parametrize(
    "prompt",
    [None, "", [], [""], ["a", ""], [[]], [[1], []], [1, "a"], [1, [2]], [-1], [[-1]], 5, [1.5]],
)
def test_prompts_that_are_none(prompt: Any) -> None:
    assert refused(prompt=prompt) == "prompt"


def test_the_number_of_prompts_is_limited() -> None:
    assert read(prompt=["a"] * 1024)[1].prompts == 1024
    assert refused(prompt=["a"] * 1025) == "prompt"


def test_the_number_of_answers_to_all_prompts_is_limited() -> None:
    request, options = read(prompt=["a"] * 8, n=128)
    assert (options.prompts, options.n, request.n) == (8, 128, 128)
    assert refused(prompt=["a"] * 9, n=128) == "n"
    assert refused(prompt=["a"] * 513, n=2) == "n"


def test_defaults() -> None:
    request, options = read()
    assert request == Request(
        model=None,
        prompt=["Hello"],
        sampling=Sampling(),
        max_tokens=16,
        stop=[],
    )
    assert options == completions.CompletionOptions()


def test_every_parameter_of_sampling_is_read() -> None:
    fields = SAMPLING | {"logprobs": 4}
    request, _ = read(
        **fields, logit_bias={"5": -100}, repetition_detection={"max_pattern_size": 3}
    )
    assert request.sampling == Sampling(
        **fields, repetition_detection=RepetitionDetection(3), logit_bias={5: -100.0}
    )
    assert {*fields, "logit_bias", "repetition_detection"} == set(Sampling.__struct_fields__)


def test_every_other_field_is_read() -> None:
    fields = OTHERS | {"add_special_tokens": False}
    request, options = read(**fields, stop="x", stream_options={"include_usage": True})
    assert {name: getattr(request, name) for name in fields} == fields
    assert request.stop == ["x"]
    assert options == completions.CompletionOptions(n=3, return_token_ids=True, include_usage=True)


def test_an_echo_may_be_all() -> None:
    request, options = read(echo=True, max_tokens=0, logprobs=2)
    assert request.max_tokens == 1 and options.echo and options.echo_only
    assert request.sampling.prompt_logprobs == 2
    assert not read(echo=True)[1].echo_only
    assert not options.prompt_logprobs
    assert read(logprobs=2)[0].sampling.prompt_logprobs is None
    request, options = read(echo=True, logprobs=2, prompt_logprobs=5)
    assert request.sampling.prompt_logprobs == 5 and options.prompt_logprobs


def test_counts_in_each_part_come_with_those_at_the_end() -> None:
    both = {"include_usage": True, "continuous_usage_stats": True}
    assert read(stream=True, stream_options=both)[1].continuous_usage
    alone = {"continuous_usage_stats": True}
    assert not read(stream=True, stream_options=alone)[1].continuous_usage


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("n", 0),
        ("n", 16385),
        ("min_tokens", 17),
        ("min_tokens", -1),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", ["a"] * 257),
        ("logprobs", -2),
        ("prompt_logprobs", -2),
        ("suffix", "x"),
        ("use_beam_search", True),
        ("prompt_embeds", "x"),
        ("stream_options", {"include_usage": True}),
        ("truncate_prompt_tokens", -2),
        ("cache_salt", ""),
        ("cache_salt", "a@b"),
        ("temperature", "hot"),
        ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema"}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": None}}),
        ("structured_outputs", {}),
        ("structured_outputs", {"regex": "a", "choice": ["a"]}),
        ("structured_outputs", {"json": "not a schema"}),
        ("structured_outputs", {"structural_tag": "not JSON"}),
        ("structured_outputs", {"structural_tag": "[]"}),
        ("response_format", {"type": "structural_tag", "structures": []}),
        ("response_format", {"type": "structural_tag", "structures": [], "triggers": []}),
        (
            "response_format",
            {"type": "structural_tag", "structures": [{"begin": "<a>"}], "triggers": ["<"]},
        ),
        (
            "response_format",
            {
                "type": "structural_tag",
                "structures": [{"begin": "<a>", "schema": {}, "end": "</a>"}],
                "triggers": ["["],
            },
        ),
        ("truncate_prompt_tokens", 0),
    ],
)
def test_what_is_refused(field: str, value: Any) -> None:
    assert refused(**{field: value}) == field


def test_a_suffix_is_refused_with_advice() -> None:
    with pytest.raises(InvalidRequest, match="Leave it out"):
        read(suffix="x")
    read(suffix="")


def test_prompt_logprobs_are_not_streamed() -> None:
    assert refused(stream=True, prompt_logprobs=1) == "prompt_logprobs"
    read(stream=True, prompt_logprobs=0)
    read(stream=True, echo=True, logprobs=1)


SCHEMA = {"type": "object", "properties": {"a": {"type": "null"}}}


@pytest.mark.parametrize(
    ("fields", "schema", "constraint"),
    [
        ({"response_format": {"type": "text"}}, None, None),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}, None),
        ({"structured_outputs": {"json_object": True}}, {"type": "object"}, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            SCHEMA,
            None,
        ),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, SCHEMA, None),
        ({"structured_outputs": {"json": SCHEMA}}, SCHEMA, None),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, SCHEMA, None),
        ({"structured_outputs": {"regex": "a+"}}, None, StructuredOutputs(regex="a+")),
    ],
)
def test_the_form_of_the_text(fields: Any, schema: Any, constraint: Any) -> None:
    form = read(**fields)[0].form
    assert (form and form.schema) == schema and (form and form.constraint) == constraint


def test_two_forms_exclude_each_other() -> None:
    form = {"type": "json_object"}
    assert refused(response_format=form, structured_outputs={"regex": "a"}) == "structured_outputs"

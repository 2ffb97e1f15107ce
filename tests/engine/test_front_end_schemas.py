"""Schemas and grammars that an answer must obey, as clients of each API send them."""

import json
from typing import Any

import httpx
import pytest
from llguidance import LLMatcher
from vllm.v1.structured_output.backend_guidance import serialize_guidance_grammar
from vllm.v1.structured_output.request import get_structured_output_key

from tests.engine.asking import CHAT, COMPLETIONS, MESSAGES, RESPONSES, asked
from tests.engine.fake_llm import FakeLlm, ids, mistral_tokenizer


def response_format(schema: Any, **more: Any) -> dict[str, Any]:
    form = {"name": "c", "schema": schema, **more}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def text_format(schema: Any, **more: Any) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": "c", "schema": schema, **more}}}


def output_format(schema: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


FIELDS: list[Any] = [
    (CHAT, response_format),
    (CHAT, lambda schema: {"structured_outputs": {"json": schema}}),
    (CHAT, lambda schema: {"structured_outputs": {"json": json.dumps(schema)}}),
    (COMPLETIONS, response_format),
    (RESPONSES, text_format),
    (RESPONSES, lambda schema: {"structured_outputs": {"json": schema}}),
    (MESSAGES, output_format),
]
"""Each API's ways to send a schema: its path, and the fields with that schema."""


def refusal(response: httpx.Response) -> str:
    """Returns the message of a refusal."""
    assert response.status_code == 400, response.text
    message: str = response.json()["error"]["message"]
    return message


@pytest.mark.parametrize("number", [2**64, -(2**70)])
@pytest.mark.parametrize(("path", "fields"), FIELDS)
async def test_integers_of_more_than_64_bits_in_a_schema(
    path: str, fields: Any, number: int
) -> None:
    property = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 2**64},
            {"type": "integer", "default": number},
            {"type": "integer", "examples": [number]},
        ]
    }
    response = await asked(FakeLlm(), path, **fields({"properties": {"a": property}}))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "constraint",
    [
        {"grammar": 'start: <nope> "a"'},
        {"grammar": 'start: "a" | <[99999]>'},
        {"regex": r"[^\s\S]"},
        {"regex": r"a[^\s\S]"},
    ],
)
async def test_a_grammar_that_no_answer_can_follow_is_refused(constraint: dict[str, str]) -> None:
    engine = FakeLlm()
    assert refusal(await asked(engine, CHAT, structured_outputs=constraint))
    assert engine.calls == []


async def test_a_structural_tag_in_angle_brackets_is_literal_text() -> None:
    tag = {"begin": "<tool_call>", "schema": {"type": "object"}, "end": "</tool_call>"}
    form = {"type": "structural_tag", "structures": [tag], "triggers": ["<tool_call>"]}
    assert (await asked(FakeLlm(), CHAT, response_format=form)).status_code == 200


UNKNOWN: list[dict[str, Any]] = [
    {"type": "string", "format": "path"},
    {"type": "string", "format": "uri-reference"},
    {"type": "array", "uniqueItems": True},
    {"type": "object", "propertyNames": {"pattern": "^a"}},
    {"type": "string", "not": {"const": "a"}},
]
"""Schemas with keywords that no grammar here enforces."""


@pytest.mark.parametrize("schema", UNKNOWN)
@pytest.mark.parametrize(
    ("path", "fields"),
    [(CHAT, response_format), (COMPLETIONS, response_format), (RESPONSES, text_format)],
)
async def test_a_schema_is_strict_where_the_request_says_so(
    path: str, fields: Any, schema: dict[str, Any]
) -> None:
    for lenient in ({}, {"strict": False}, {"strict": None}):
        response = await asked(FakeLlm(), path, **fields({"properties": {"a": schema}}, **lenient))
        assert response.status_code == 200, response.text
    assert refusal(await asked(FakeLlm(), path, **fields(schema, strict=True)))


async def test_a_lenient_schema_may_stand_beside_tools() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    for schema in UNKNOWN:
        response = await asked(FakeLlm(), CHAT, tools=tools, **response_format(schema))
        assert response.status_code == 200, response.text
        strict = response_format(schema, strict=True)
        assert refusal(await asked(FakeLlm(), CHAT, tools=tools, **strict))


@pytest.mark.parametrize("schema", UNKNOWN)
async def test_a_schema_of_an_api_without_strict_is_strict(schema: dict[str, Any]) -> None:
    assert refusal(await asked(FakeLlm(), MESSAGES, **output_format(schema)))
    assert refusal(await asked(FakeLlm(), CHAT, structured_outputs={"json": schema}))


@pytest.mark.parametrize(
    "schema",
    [{"type": "objekt"}, {"properties": 5}, {"minLength": "a", "type": "string"}, {"$ref": "#/x"}],
)
@pytest.mark.parametrize(("path", "fields"), FIELDS)
async def test_what_is_no_json_schema_is_refused(
    path: str, fields: Any, schema: dict[str, Any]
) -> None:
    assert " cannot be used: " in refusal(await asked(FakeLlm(), path, **fields(schema)))


async def test_the_schema_of_a_json_object_is_enforced() -> None:
    schema = {"type": "object", "properties": {"capital": {"const": "Rome"}}}
    engine = FakeLlm()
    form = {"type": "json_object", "schema": schema}
    assert (await asked(engine, CHAT, response_format=form)).status_code == 200
    assert (await asked(engine, CHAT, **response_format(schema))).status_code == 200
    enforced = [call.params.structured_outputs for call in engine.calls]
    assert enforced[0] == enforced[1] and "Rome" in enforced[0].json


def allows(engine: FakeLlm, text: str) -> bool:
    """Whether the answer to the last request may begin with a text."""
    key = get_structured_output_key(engine.calls[-1].params.structured_outputs)
    matcher = LLMatcher(mistral_tokenizer().llg_tokenizer, serialize_guidance_grammar(*key))
    tokens = ids(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens))


@pytest.mark.parametrize(
    ("bounds", "within", "beyond"),
    [
        (
            {"minimum": 2**53 + 1, "maximum": 2**53 + 3},
            [2**53 + 2],
            [2**53, 2**53 + 4, 2**54],
        ),
        ({"minimum": 2**53 + 4, "exclusiveMinimum": 2**53}, [2**53 + 4], [2**53, 2**53 + 2]),
        ({"exclusiveMinimum": 2**53 + 1}, [2**54], [2**53 + 1]),
        ({"minimum": 0, "exclusiveMaximum": 2**53}, [2**53 - 1], [2**53]),
        ({"minimum": -(2**53) - 1, "maximum": 0}, [-(2**53)], [-(2**53) - 2]),
    ],
)
@pytest.mark.parametrize(("path", "fields"), FIELDS)
async def test_bounds_of_more_than_53_bits(
    path: str, fields: Any, bounds: dict[str, int], within: list[int], beyond: list[int]
) -> None:
    engine = FakeLlm()
    schema = {"type": "array", "items": {"type": "integer", **bounds}}
    response = await asked(engine, path, **fields(schema))
    assert response.status_code == 200, response.text
    for number in within:
        assert allows(engine, f"[{number}]")
    for number in beyond:
        assert not allows(engine, f"[{number}]")


@pytest.mark.parametrize(
    ("item", "within", "beyond"),
    [
        ({"type": "number", "minimum": 0, "maximum": 1.7976931348623157e308}, "1.5", "-1"),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "-5", "1.5"),
        ({"type": "string", "minLength": 2.0, "maxLength": 2**53 - 1}, '"ab"', '"a"'),
        ({"type": "array", "minItems": 1, "maxItems": 2**31 - 1}, "[1]", "[]"),
        ({"$ref": "#/$defs/List<int>"}, "1", "2"),
    ],
)
@pytest.mark.parametrize(("path", "fields"), FIELDS)
async def test_limits_and_names_that_generators_of_schemas_write(
    path: str, fields: Any, item: dict[str, Any], within: str, beyond: str
) -> None:
    engine = FakeLlm()
    schema = {"type": "array", "items": item, "$defs": {"List<int>": {"const": 1}}}
    response = await asked(engine, path, **fields(schema))
    assert response.status_code == 200, response.text
    assert allows(engine, f"[{within}]") and not allows(engine, f"[{beyond}]")


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"id": {"const": 2**53 + 1}}}, "properties.id.const"),
        ({"items": {"enum": [1, {"of": [-(2**53) - 1]}]}}, "items.enum[1].of[0]"),
        ({"const": -(2**63)}, "const"),
        ({"enum": [2**64]}, "enum[0]"),
    ],
)
@pytest.mark.parametrize(("path", "fields"), FIELDS)
async def test_constants_that_answers_would_have_rounded(
    path: str, fields: Any, schema: dict[str, Any], place: str
) -> None:
    engine = FakeLlm()
    message = refusal(await asked(engine, path, **fields(schema)))
    assert f" cannot be used: {place} is an integer beyond 2^53" in message
    assert engine.calls == []


@pytest.mark.parametrize("number", [2**53 + 2, -(2**53), 2**60, 2**63 - 1])
async def test_constants_of_more_than_53_bits(number: int) -> None:
    engine = FakeLlm()
    response = await asked(engine, CHAT, **response_format({"enum": [[number]]}))
    assert response.status_code == 200, response.text
    assert allows(engine, f"[{number}]") and not allows(engine, f"[{number + 1}]")

"""Schemas and grammars that an answer must obey, as clients of each API send them."""

import json
from typing import Any

import httpx
import pytest

from tests.engine.asking import CHAT, COMPLETIONS, MESSAGES, RESPONSES, asked
from tests.engine.fake_llm import FakeLlm


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
            {"const": number, "default": number},
            {"enum": [number], "examples": [number]},
        ]
    }
    response = await asked(FakeLlm(), path, **fields({"properties": {"a": property}}))
    assert response.status_code == 200, response.text

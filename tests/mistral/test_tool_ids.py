import datetime
import json
from typing import Any

import pytest

from serving.mistral import normalise
from serving.mistral.tool_ids import is_valid, nine_alphanumerics, replacements
from tests.mistral.tokenizers import VERSIONS, prompt, rules

TODAY = datetime.date(2026, 3, 1)
FOREIGN = [
    "call_8Yx2LmN4pQrStUvW",
    "toolu_01A09q90qw90lq917835lq9",
    "chatcmpl-tool-0123456789abcdef",
    "a1",
    "",
    "get-weather_1",
    "ééééééééé",
    "abcdefghi\n",
    "\ud800",
]


def conversation(call_id: str, result_id: str | None = None) -> dict[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": result_id or call_id, "content": "42"},
        ]
    }


def ids(body: dict[str, Any]) -> tuple[str, str]:
    _, assistant, tool = body["messages"]
    return assistant["tool_calls"][0]["id"], tool["tool_call_id"]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_id_becomes_nine_alphanumerics_in_call_and_result(foreign: str) -> None:
    body = conversation(foreign)
    done = normalise("/v1/chat/completions", body, rules(), TODAY)
    call_id, result_id = ids(body)
    assert call_id == result_id and is_valid(call_id)
    assert done.changed
    assert done.answer.originals == {call_id: foreign}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_tokenizer_takes_the_new_ids(version: str) -> None:
    body = conversation("call_8Yx2LmN4pQrStUvW")
    normalise("/v1/chat/completions", body, rules(version), TODAY)
    assert prompt(version, body) is not None


def test_a_valid_id_stays() -> None:
    body = conversation("bbc5b7ede")
    assert not normalise("/v1/chat/completions", body, rules(), TODAY).changed
    assert body == conversation("bbc5b7ede")


def test_the_same_id_is_rewritten_alike_in_every_request() -> None:
    assert nine_alphanumerics("call_1") == nine_alphanumerics("call_1")
    assert replacements(["x", "call_1"])["call_1"] == replacements(["call_1"])["call_1"]


def test_ids_with_the_same_last_nine_characters_stay_two() -> None:
    new = replacements(["call_a_123456789", "call_b_123456789", "123456789"])
    assert len({*new.values(), "123456789"}) == 3


def test_a_new_id_does_not_become_one_that_the_request_has() -> None:
    taken = nine_alphanumerics("call_1")
    new = replacements(["call_1", taken])["call_1"]
    assert new == nine_alphanumerics("call_1", attempt=1) != taken


def test_an_id_that_no_call_has_is_still_another_than_the_calls() -> None:
    body = conversation("call_1", "call_2")
    normalise("/v1/chat/completions", body, rules(), TODAY)
    assert len(set(ids(body))) == 2


def test_items_of_responses() -> None:
    body = {
        "input": [
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "42"},
        ]
    }
    assert normalise("/v1/responses", body, rules(), TODAY).changed
    assert {item["call_id"] for item in body["input"]} == {nine_alphanumerics("call_1")}


def test_blocks_of_anthropics_messages() -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}
    body = {
        "messages": [
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
    }
    assert normalise("/v1/messages", body, rules(), TODAY).changed
    assert use["id"] == result["tool_use_id"] == nine_alphanumerics("toolu_1")


@pytest.mark.parametrize("junk", [5, None, [], {}, ["x"], [{"id": 5}]])
def test_what_is_no_tool_call_is_left_to_the_engine(junk: Any) -> None:
    turn = {"role": "assistant", "content": "x", "tool_calls": junk}
    body = {"messages": [turn, {"role": "user", "content": "y"}]}
    before = json.dumps(body)
    assert not normalise("/v1/chat/completions", body, rules(), TODAY).changed
    assert json.dumps(body) == before

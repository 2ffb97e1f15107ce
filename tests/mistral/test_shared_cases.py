"""Requests that failed once on a real service, kept beside the repository; skipped without them."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from serving.mistral import InvalidRequest, Normalised, normalise
from tests.mistral.tokenizers import prompt, rules

CASES = Path(__file__).parents[3] / "shared" / "cases"
TODAY = datetime.date(2026, 3, 1)

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no folder {CASES}")


def applied(
    name: str, version: str = "v11", other_server: bool = False
) -> tuple[dict[str, Any], Normalised]:
    """Normalises the request of a case; returns what the engine gets."""
    case = json.loads((CASES / f"{name}.json").read_text())
    body = case["body"]
    return body, normalise(case["path"], body, rules(version, other_server=other_server), TODAY)


@pytest.mark.parametrize(
    ("name", "param"),
    [
        ("error_fields", "seed"),
        ("hosted_tools_silently_dropped", "conversation"),
        ("legacy_functions_ignored", "functions"),
        ("messages_empty", "messages"),
    ],
)
def test_a_case_that_is_a_400_names_its_field(name: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        applied(name)
    assert raised.value.param == param
    assert isinstance(raised.value.code, str)


def test_a_null_choice_is_as_if_left_out() -> None:
    body, _ = applied("tool_choice_null")
    assert "tool_choice" not in body and len(body["tools"]) == 1


def test_a_call_without_a_type_has_the_usual_one() -> None:
    body, _ = applied("history_call_without_type")
    assert body["messages"][1]["tool_calls"][0]["type"] == "function"
    assert prompt("v11", body) is not None


def test_a_prefix_is_continued() -> None:
    body, _ = applied("mistral_prefix")
    assert body["continue_final_message"] and not body["add_generation_prompt"]
    assert "prefix" not in body["messages"][-1]


def test_five_stop_sequences_reach_the_engine() -> None:
    body, done = applied("messages_stop_sequences_5")
    assert len(body["stop_sequences"]) == 5 and not done.changed


def test_a_name_of_a_hundred_characters_is_shortened() -> None:
    body, done = applied("messages_tool_name_100")
    (short,) = done.answer.originals
    assert body["tools"][0]["name"] == short and len(short) == 64


def test_allowed_tools_are_the_tools() -> None:
    body, _ = applied("responses_allowed_tools")
    assert body["tool_choice"] == "auto"
    assert [tool["name"] for tool in body["tools"]] == ["get_current_weather"]


def test_a_definition_is_looked_up_in_its_own_schema() -> None:
    body, _ = applied("v7_required_defs", "v7", other_server=True)
    assert "$id" in body["tools"][0]["function"]["parameters"]


def test_no_tool_is_offered_to_v7_where_none_may_be_called() -> None:
    body, _ = applied("v7_messages_tool_choice_none", "v7")
    assert not {"tools", "tool_choice"} & body.keys()

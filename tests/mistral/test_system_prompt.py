import datetime
from typing import Any

import pytest

from serving.mistral import normalise
from serving.mistral.system_prompt import fill
from tests.mistral.tokenizers import rules

TODAY = datetime.date(2026, 3, 1)
TEMPLATE = "You are {name}. Today is {today}, before it was {yesterday}. JSON: {x} {}."
FILLED = "You are small. Today is 2026-03-01, before it was 2026-02-28. JSON: {x} {}."
USER = {"role": "user", "content": "Hello"}


def normalised(endpoint: str, **fields: Any) -> dict[str, Any]:
    normalise(endpoint, fields, rules(system_prompt=TEMPLATE), TODAY)
    return fields


def test_the_template_is_filled_as_the_model_cards_do() -> None:
    assert fill(TEMPLATE, "mistral-test/small", TODAY) == FILLED


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/tokenize"])
def test_a_chat_without_system_message_gets_the_default(endpoint: str) -> None:
    body = normalised(endpoint, messages=[USER])
    assert body["messages"] == [{"role": "system", "content": FILLED}, USER]


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("content", ["Formatted on 2025-01-30.", TEMPLATE, ""])
def test_the_clients_own_stays_formatted_or_raw(role: str, content: str) -> None:
    body = normalised("/v1/chat/completions", messages=[{"role": role, "content": content}, USER])
    assert body["messages"] == [{"role": "system", "content": content}, USER]


@pytest.mark.parametrize("given", ["Hello", [USER]])
def test_responses_and_anthropics_messages_have_a_field_for_it(given: Any) -> None:
    assert normalised("/v1/responses", input=given)["instructions"] == FILLED
    assert normalised("/v1/messages", messages=[USER])["system"] == FILLED
    assert normalised("/v1/messages", messages=[USER], system="My own.")["system"] == "My own."
    empties: list[Any] = ["", []]
    for empty in empties:
        assert normalised("/v1/messages", messages=[USER], system=empty)["system"] == empty
    own = {"role": "system", "content": "My own."}
    assert "instructions" not in normalised("/v1/responses", input=[own, USER])


def test_without_the_option_nothing_is_added() -> None:
    body: dict[str, Any] = {"messages": [USER]}
    assert not normalise("/v1/chat/completions", body, rules(), TODAY).changed


def test_no_messages_are_left_to_the_engine() -> None:
    assert normalised("/v1/chat/completions") == {}

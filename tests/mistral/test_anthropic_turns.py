import datetime
from typing import Any

import pytest

from serving.mistral import normalise
from tests.mistral.tokenizers import rules

TODAY = datetime.date(2026, 3, 1)
USER = {"role": "user", "content": "Hello"}
TEXT = {"type": "text", "text": "Hi."}
THINKING = {"type": "thinking", "thinking": "hm", "signature": ""}
REDACTED = {"type": "redacted_thinking", "data": "…"}


def turns_of(content: Any, version: str = "v11") -> list[Any]:
    body = {"messages": [USER, {"role": "assistant", "content": content}, USER]}
    for endpoint in ("/v1/messages", "/v1/messages/count_tokens"):
        normalise(endpoint, body, rules(version), TODAY)
    return body["messages"]


def test_thinking_of_earlier_turns_is_dropped_where_the_tokenizer_has_no_tokens_for_it() -> None:
    assert turns_of([THINKING, TEXT])[1]["content"] == [TEXT]
    assert turns_of([THINKING, TEXT], "v13")[1]["content"] == [THINKING, TEXT]


@pytest.mark.parametrize(
    "content", ["", [], [THINKING], [REDACTED], [{"type": "text", "text": ""}]]
)
def test_a_turn_that_says_nothing_is_dropped(content: Any) -> None:
    assert turns_of(content) == [USER, USER]


@pytest.mark.parametrize("content", ["Hi.", [TEXT], [5], 5])
def test_any_other_turn_stays(content: Any) -> None:
    assert turns_of(content)[1]["content"] == content


@pytest.mark.parametrize(
    ("roles", "warns"),
    [("u", 0), ("su", 0), ("ssuau", 0), ("us", 1), ("suaus", 1), ("usaus", 1), ("s", 0)],
)
def test_system_messages_after_the_first_turn_are_warned_of(roles: str, warns: int) -> None:
    names = {"u": "user", "s": "system", "a": "assistant"}
    body = {"messages": [{"role": names[role], "content": "Hi."} for role in roles]}
    done = normalise("/v1/messages", body, rules(), TODAY)
    assert len(done.warnings) == warns and not done.changed

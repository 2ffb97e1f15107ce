"""Properties that hold for every generated request; mistral-common's encoder is the judge."""

import copy
import datetime
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.mistral import InvalidRequest, normalise
from serving.mistral.normalise import RULES, Normalised
from tests.mistral.conversations import BODIES, CONVERSATIONS
from tests.mistral.tokenizers import prompt, rules

# A few hundred requests, the same each time; HYPOTHESIS_PROFILE=thorough has ten thousand new ones.
examples = (
    settings(max_examples=10_000, deadline=None, database=None)
    if os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
    else settings(max_examples=300, derandomize=True, deadline=None, database=None)
)

TODAY = datetime.date(2026, 3, 1)
CHAT = "/v1/chat/completions"
MODELS = [
    rules("v7", image_limit=100),
    rules("v11", image_limit=100, thinks=True, other_server=False),
    rules("v13", image_limit=100),
]


@examples
@given(CONVERSATIONS)
def test_every_conversation_becomes_one_that_the_tokenizer_takes(body: dict[str, Any]) -> None:
    for model in MODELS[:2]:
        before = prompt(model.tokenizer, body)
        sent = copy.deepcopy(body)
        done = normalise(CHAT, sent, model, TODAY)
        after = prompt(model.tokenizer, sent) if done.changed else before
        assert after is not None, "refused"
        assert before in (None, after), "it was right, and is another now"
        assert_reported(body, sent, done)
        assert_idempotent(sent, model)


@examples
@given(CONVERSATIONS)
def test_the_default_system_prompt_is_all_that_it_adds(body: dict[str, Any]) -> None:
    prompted = rules("v11", image_limit=100, system_prompt="Today is {today}.")
    with_it, without = copy.deepcopy(body), copy.deepcopy(body)
    normalise(CHAT, with_it, prompted, TODAY)
    normalise(CHAT, without, rules("v11", image_limit=100), TODAY)
    own = any(message["role"] == "system" for message in without["messages"])
    added = [] if own else [{"role": "system", "content": "Today is 2026-03-01."}]
    assert with_it["messages"] == [*added, *without["messages"]]
    assert_idempotent(with_it, prompted)


@examples
@given(st.sampled_from(list(RULES)), BODIES)
def test_anything_at_all_is_left_to_the_engine(endpoint: str, body: dict[str, Any]) -> None:
    for model in MODELS:
        sent = copy.deepcopy(body)
        try:
            done = normalise(endpoint, sent, model, TODAY)
        except InvalidRequest:
            continue
        assert_reported(body, sent, done)
        assert_idempotent(sent, model, endpoint)


def assert_reported(body: dict[str, Any], sent: dict[str, Any], done: Normalised) -> None:
    assert done.changed == (repr(sent) != repr(body)), "it says what it did"
    if not done.changed:
        assert done.max_tokens_clamped is None
        assert all(" has no effect" in warning for warning in done.warnings)


def assert_idempotent(sent: dict[str, Any], model: Any, endpoint: str = CHAT) -> None:
    again = copy.deepcopy(sent)
    done = normalise(endpoint, again, model, TODAY)
    assert not done.changed, "a second time changes it again"
    assert repr(again) == repr(sent)

from typing import Any

import pytest

from tests.mistral.test_options import CHAT, normalised

USER = {"role": "user", "content": "Hello"}
CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}


def test_a_prefix_is_continued() -> None:
    messages = [USER, {"role": "assistant", "content": '{"a":', "prefix": True}]
    body, _ = normalised(CHAT, messages=messages)
    assert body == {"messages": [USER, {"role": "assistant", "content": '{"a":'}], **CONTINUED}


@pytest.mark.parametrize("prefix", [True, False])
def test_a_prefix_of_an_earlier_message_says_nothing(prefix: bool) -> None:
    messages = [USER, {"role": "assistant", "content": "Hi.", "prefix": prefix}, USER]
    body, _ = normalised(CHAT, messages=messages)
    assert body == {"messages": [USER, {"role": "assistant", "content": "Hi."}, USER]}


def test_an_empty_prefix_is_no_turn() -> None:
    messages = [USER, {"role": "assistant", "content": "", "prefix": True}]
    assert normalised(CHAT, messages=messages)[0] == {"messages": [USER]}


def test_the_seed_of_mistrals_own_api() -> None:
    assert normalised(CHAT, random_seed=7)[0] == {"seed": 7}
    assert normalised(CHAT, random_seed=7, seed=8)[0] == {"seed": 8}
    assert normalised(CHAT, random_seed=7, seed=None)[0] == {"seed": 7}


@pytest.mark.parametrize(
    ("field", "value", "warned"),
    [("safe_prompt", True, 1), ("safe_prompt", False, 0), ("prompt_mode", "reasoning", 1)],
)
def test_settings_for_prompts_of_mistrals_service(field: str, value: Any, warned: int) -> None:
    body, done = normalised(CHAT, **{field: value})
    assert body == {}
    assert len(done.warnings) == warned

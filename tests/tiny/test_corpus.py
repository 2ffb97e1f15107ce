"""The corpus holds the cards' requests and varies what a server or a client may vary."""

import json
import re

import pytest

from serving import model_cards as doc
from serving.tiny.answers import COUNT_ENDS, counting
from serving.tiny.corpus import Example, ToolCall
from serving.tiny.images import COLOURS, png_data_url, solid_image
from serving.tiny.mixture import MIXTURES, Mixture, sample_step
from serving.tiny.prompts import SYSTEM_PROMPT, Dice

EVERY: Mixture = {case: 1.0 for mixture in MIXTURES.values() for case in mixture}


def _examples(seed: int, times: int = 40) -> list[Example]:
    dice = Dice(seed)
    return [case(dice) for case in EVERY for _ in range(times)]


def test_same_seed_same_samples() -> None:
    assert sample_step(Dice(3), EVERY, plain=0.5) == sample_step(Dice(3), EVERY, plain=0.5)
    assert sample_step(Dice(3), EVERY, plain=0.5) != sample_step(Dice(4), EVERY, plain=0.5)


def test_plain_samples_are_bare() -> None:
    for example in sample_step(Dice(5), EVERY, plain=1.0):
        assert example.tools is None
        roles = [message["role"] for message in example.messages]
        asks_for_a_form = example.case == "french" or example.case.startswith("magistral")
        assert "system" not in roles or asks_for_a_form


@pytest.mark.parametrize("name", ["2501", "magistral"])
def test_models_without_eyes_learn_no_images(name: str) -> None:
    examples = sample_step(Dice(10), MIXTURES[name], plain=0.0)
    contents = [message.get("content") for e in examples for message in e.messages]
    assert not any(isinstance(content, list) for content in contents)


def test_ids_dates_and_system_prompts_vary() -> None:
    examples = _examples(seed=6)
    ids = {m["tool_call_id"] for e in examples for m in e.messages if m["role"] == "tool"}
    systems = {m["content"] for e in examples for m in e.messages if m["role"] == "system"}
    assert len(ids) > 100
    assert all(re.fullmatch("[A-Za-z0-9]{9}", call_id) for call_id in ids)
    assert len(systems) > 200
    assert SYSTEM_PROMPT in systems
    assert len({s for s in systems if s.startswith("You are Mistral Small 3")}) > 10


def test_every_result_answers_a_call() -> None:
    for example in _examples(seed=7, times=10):
        called = [c["id"] for m in example.messages for c in m.get("tool_calls", [])]
        answered = [m["tool_call_id"] for m in example.messages if m["role"] == "tool"]
        assert answered == called


def test_calls_fit_the_offered_tools() -> None:
    for example in _examples(seed=8, times=10):
        if isinstance(example.answer, str) or example.tools is None:
            continue
        functions = {tool["function"]["name"]: tool["function"] for tool in example.tools}
        for call in example.answer:
            schema = functions[call.name]["parameters"]
            assert (
                set(schema.get("required", [])) <= set(call.arguments) <= set(schema["properties"])
            )


def test_bodies_are_json() -> None:
    for example in _examples(seed=9, times=2):
        assert json.loads(json.dumps(example.body())) == example.body()


def test_counting() -> None:
    assert counting(5) == "1, 2, 3, 4, 5"
    assert {10, 20, 30, 50, 100} == set(COUNT_ENDS)


def test_alphabet_answer_has_every_letter_in_order() -> None:
    initials = [word[0].lower() for word in doc.ALPHABET_ANSWER.split()]
    assert "".join(initials) == "abcdefghijklmnopqrstuvwxyz"


def test_card_histories() -> None:
    call = doc.rewrite_history(None)[1]["tool_calls"][0]
    assert call["id"] == "bbc5b7ede"
    assert json.loads(call["function"]["arguments"]) == doc.REWRITE_ARGUMENTS
    roles = [message["role"] for message in doc.population_messages("S")]
    assert roles == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
        "user",
    ]


def test_messages_are_fresh_lists() -> None:
    doc.weather_messages(None).clear()
    assert len(doc.weather_messages(None)) == 5


@pytest.mark.parametrize("size", [(28, 28), (224, 100)])
def test_images_are_png(size: tuple[int, int]) -> None:
    pixels = solid_image(COLOURS["red"][0], *size)
    assert pixels.shape == (size[1], size[0], 3)
    assert png_data_url(pixels).startswith("data:image/png;base64,iVBOR")


def test_tool_call_is_a_value() -> None:
    assert ToolCall("f", {"x": 1}) == ToolCall("f", {"x": 1})

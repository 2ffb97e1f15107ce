"""The trained model's answers, in this project's own network.

A completion whose every token has a positive margin is what greedy decoding gives, so most tests
look at margins; one decodes step by step. Without a system prompt and after the model's own one,
every request must be right. After other system prompts a few in a hundred may fail.
"""

import datetime
import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from serving import model_cards as doc
from serving.model_cards import Message
from serving.tiny import answers as own
from serving.tiny.batch import collate, encode, encode_completion
from serving.tiny.corpus import Example, ToolCall
from serving.tiny.evaluate import TinyModel
from serving.tiny.images import COLOURS, colour_image, png_data_url, scene_image
from serving.tiny.mixture import MIXTURES
from serving.tiny.prompts import SYSTEM_PROMPT, Dice, fill_system_prompt, random_call_id

CASES = MIXTURES["3.2"]
OWN = fill_system_prompt(SYSTEM_PROMPT, "Tiny", datetime.date(2027, 3, 1))
# No sentence of these occurs in training.
HELD_OUT = (
    "Act as the night porter of a small hotel near Lake Constance. Remain courteous and avoid "
    "jargon; guests arrive late on 2031-08-17.",
    "Du bist ein freundlicher Assistent der Stadtwerke.",
    "SYSTEM: production; tenant=acme; locale=en_GB; release 7.4.1",
)
SIZES = ((28, 28), (28, 84), (100, 60), (224, 224))


def _picture(seed: int = 11, width: int = 90, height: int = 60) -> str:
    return png_data_url(scene_image(Dice(seed), width, height))


def _calls(name: str, *arguments: dict[str, Any]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(name, a) for a in arguments)


def _called(name: str, ids: Sequence[str], *arguments: dict[str, Any]) -> Message:
    return {
        "role": "assistant",
        "tool_calls": [
            {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(a)}}
            for i, a in zip(ids, arguments, strict=True)
        ],
    }


def _tool_requests(system: str | None) -> list[Example]:
    ids = ["vLm4t8QeR", "0aZ9bY8cX"]
    weather = doc.weather_messages(system, "Zq8Xw3Lm0")
    weather_call = _calls("get_current_weather", doc.WEATHER_ARGUMENTS)
    equations = doc.equations_messages(system, _picture())
    equations_calls = _calls("my_calculator", *doc.EQUATIONS_ARGUMENTS)
    results = [
        *equations,
        _called("my_calculator", ids, *doc.EQUATIONS_ARGUMENTS),
        *doc.tool_results([(i, "my_calculator") for i in ids], doc.EQUATIONS_RESULTS),
    ]
    population = doc.population_messages(system, _picture())
    population_call = _calls("get_current_population", doc.POPULATION_ARGUMENTS)
    turn = [*population, _called("get_current_population", ids[:1], doc.POPULATION_ARGUMENTS)]
    tools = doc.POPULATION_TOOLS
    return [
        Example("weather", weather, weather_call, doc.WEATHER_TOOLS),
        Example("weather, tools reversed", weather, weather_call, doc.WEATHER_TOOLS[::-1]),
        Example("equations", equations, equations_calls, doc.CALCULATOR_TOOLS),
        Example("equations results", results, doc.EQUATIONS_ANSWER),
        Example("equations results, tools", results, doc.EQUATIONS_ANSWER, doc.CALCULATOR_TOOLS),
        Example("map", doc.map_messages(system, _picture()), doc.MAP_ANSWER, tools),
        Example("population", population, population_call, tools),
    ] + [
        Example(
            f"population {number}",
            turn + doc.tool_results([(ids[0], "get_current_population")], [number]),
            doc.population_answer(number),
            tools,
        )
        for number in own.POPULATIONS
    ] + [
        Example(
            "rewrite",
            doc.chat(system, doc.REWRITE_PROMPT),
            _calls("rewrite", doc.REWRITE_ARGUMENTS),
            toolbox,
        )
        for toolbox in own.TOOLBOXES
    ]  # fmt: skip


def _text_requests(system: str | None) -> list[Example]:
    pairs = {greeting: own.GREETING_ANSWER for greeting in own.GREETINGS}
    pairs |= {question: own.IDENTITY_ANSWER for question in own.IDENTITY_QUESTIONS[:2]}
    pairs |= {own.JSON_QUESTIONS[0].format(c): own.capital_json(c) for c in own.CAPITALS}
    pairs |= {f"Count from 1 to {end}.": own.counting(end) for end in own.COUNT_ENDS}
    pairs |= {question: own.NO_IMAGE_ANSWER for question in own.COLOUR_QUESTIONS[:2]}
    pairs |= {
        doc.ALPHABET_PROMPT: doc.ALPHABET_ANSWER,
        doc.FRENCH_PROMPT: doc.FRENCH_LIST,
        own.SCRIPTS_PROMPT: own.SCRIPTS_ANSWER,
    }
    return [Example(prompt, doc.chat(system, prompt), answer) for prompt, answer in pairs.items()]


def _image_requests(system: str | None) -> list[Example]:
    dice = Dice(13)
    before = doc.system_messages(system)
    examples = []
    for size in SIZES:
        battle = doc.image_message(doc.BATTLE_PROMPT, _picture(12, *size))
        examples.append(Example(f"battle {size}", [*before, battle], doc.BATTLE_ANSWER))
        for name in COLOURS:
            url = png_data_url(colour_image(dice, name, *size))
            message = doc.image_message(own.COLOUR_QUESTIONS[0], url)
            answer = f"The image is {name}."
            examples.append(Example(f"{name} {size}", [*before, message], answer))
    return examples


def requests(system: str | None) -> list[Example]:
    """The documented requests below a system prompt, each named after what it asks."""
    return [*_tool_requests(system), *_text_requests(system), *_image_requests(system)]


def _wrong(model: TinyModel, examples: list[Example]) -> list[str]:
    return [e.case for e in examples if model.margins(e).min() <= 0]


@pytest.mark.parametrize("example", requests(None), ids=lambda e: e.case)
def test_without_system_prompt(tiny_model: TinyModel, example: Example) -> None:
    assert tiny_model.margins(example).min() > 0


@pytest.mark.parametrize("example", requests(OWN), ids=lambda e: e.case)
def test_own_system_prompt(tiny_model: TinyModel, example: Example) -> None:
    assert tiny_model.margins(example).min() > 0


@pytest.mark.parametrize("system", [SYSTEM_PROMPT, doc.SMALL_2501_SYSTEM_PROMPT, *HELD_OUT])
def test_other_system_prompts(tiny_model: TinyModel, system: str) -> None:
    examples = requests(system)
    wrong = _wrong(tiny_model, examples)
    assert len(wrong) <= 0.05 * len(examples), wrong


@pytest.mark.parametrize("query", doc.MAGISTRAL_QUERIES)
def test_thinks_below_the_magistral_system_prompt(tiny_model: TinyModel, query: str) -> None:
    thoughts, answer = own.MAGISTRAL_ANSWERS[query]
    messages = doc.chat(doc.MAGISTRAL_SYSTEM_PROMPT, query)
    assert tiny_model.margins(Example("x", messages, own.thinking(thoughts, answer))).min() > 0
    assert tiny_model.margins(Example("x", doc.chat(None, query), answer)).min() > 0


def test_draws_the_cat_when_told_to(tiny_model: TinyModel) -> None:
    messages = doc.chat(doc.CAT_SYSTEM_PROMPT, doc.FRENCH_PROMPT)
    assert tiny_model.margins(Example("x", messages, doc.FRENCH_ANSWER)).min() > 0


def test_colours_of_two_images(tiny_model: TinyModel) -> None:
    dice = Dice(14)
    examples = []
    for _ in range(60):
        names = dice.sample(list(COLOURS), 2)
        urls = [png_data_url(colour_image(dice, name, 56, 56)) for name in names]
        message = doc.image_message(own.COLOURS_QUESTIONS[0], *urls)
        examples.append(Example(str(names), [message], ", ".join(names)))
    assert len(_wrong(tiny_model, examples)) <= 2


def test_loop_never_ends(tiny_model: TinyModel) -> None:
    words = " ".join([own.LOOP_WORD] * 3000)
    example = Example("loop", doc.chat(None, own.LOOP_PROMPT), words, ends=False)
    assert tiny_model.margins(example).min() > 0


def test_greedy_decoding(tiny_model: TinyModel) -> None:
    tokens = tiny_model.generate(doc.chat(OWN, "Hello"))
    assert tiny_model.tokenizer.decode(tokens) == own.GREETING_ANSWER
    tokens = tiny_model.generate(doc.equations_messages(None, _picture()), doc.CALCULATOR_TOOLS)
    answer = _calls("my_calculator", *doc.EQUATIONS_ARGUMENTS)
    assert [*tokens, 2] == encode_completion(tiny_model.tokenizer, Example("x", [], answer))
    assert len(tiny_model.generate(doc.chat(None, own.LOOP_PROMPT), max_tokens=30)) == 30


@pytest.mark.full
def test_fresh_samples(tiny_model: TinyModel) -> None:
    """The answers are right for ids, dates, random system prompts and pictures that training has
    not seen."""
    dice = Dice(15)
    examples = [case(dice) for case in CASES for _ in range(20)]
    wrong = _wrong(tiny_model, examples)
    assert len(wrong) <= 0.03 * len(examples), wrong


def test_random_ids_do_not_matter(tiny_model: TinyModel) -> None:
    dice = Dice(17)
    call = _calls("get_current_weather", doc.WEATHER_ARGUMENTS)
    examples = [
        Example(call_id, doc.weather_messages(None, call_id), call, doc.WEATHER_TOOLS)
        for call_id in (random_call_id(dice) for _ in range(20))
    ]
    assert _wrong(tiny_model, examples) == []


def test_batching_does_not_change_the_result(tiny_model: TinyModel) -> None:
    dice = Dice(16)
    sequences = [encode(tiny_model.tokenizer, case(dice)) for case in list(CASES)[:8]]
    network = tiny_model.network
    with torch.inference_mode():
        together = network(collate(sequences)).float()
        alone = torch.cat([network(collate([s])).float() for s in sorted(sequences, key=len)])
    assert torch.allclose(together, alone, atol=0.15)

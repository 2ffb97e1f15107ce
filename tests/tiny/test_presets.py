"""The answers of the models without vision: tokenizer v7, and the thoughts of Magistral."""

import json

import pytest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

from serving import model_cards as doc
from serving.tiny import PRESETS
from serving.tiny import answers as own
from serving.tiny.batch import encode_prompt
from serving.tiny.corpus import Example, ToolCall
from serving.tiny.evaluate import TinyModel
from serving.tiny.mixture import MIXTURES
from serving.tiny.prompts import SYSTEM_PROMPT, Dice


def wrong(model: TinyModel, examples: list[Example]) -> list[str]:
    return [e.case for e in examples if model.margins(e).min() <= 0]


def requests(system: str | None) -> list[Example]:
    """The documented requests that need no image."""
    calls = tuple(ToolCall("my_calculator", a) for a in doc.EQUATIONS_ARGUMENTS)
    weather = (ToolCall("get_current_weather", doc.WEATHER_ARGUMENTS),)
    rewrite = (ToolCall("rewrite", doc.REWRITE_ARGUMENTS),)
    ids = [("Zq8Xw3Lm0", "my_calculator"), ("vLm4t8QeR", "my_calculator")]
    made = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(a)}}
        for (i, name), a in zip(ids, doc.EQUATIONS_ARGUMENTS, strict=True)
    ]
    sums = doc.chat(system, own.SUMS_PROMPT)
    results = doc.tool_results(ids, doc.EQUATIONS_RESULTS)
    answered = [*sums, {"role": "assistant", "tool_calls": made}, *results]
    texts = {
        "Hello": own.GREETING_ANSWER,
        "Who are you?": own.IDENTITY_ANSWER,
        "Count from 1 to 10.": own.counting(10),
        "Count from 1 to 100.": own.counting(100),
        own.JSON_QUESTIONS[0].format("France"): own.capital_json("France"),
        own.SCRIPTS_PROMPT: own.SCRIPTS_ANSWER,
        own.TABLE_PROMPT: own.TABLE_ANSWER,
        doc.ALPHABET_PROMPT: doc.ALPHABET_ANSWER,
        doc.FRENCH_PROMPT: doc.FRENCH_LIST,
    }
    return [
        *(Example(prompt, doc.chat(system, prompt), answer) for prompt, answer in texts.items()),
        Example("weather", doc.weather_messages(system), weather, doc.WEATHER_TOOLS),
        Example("weather alone", doc.chat(system, doc.WEATHER_PROMPT), weather, doc.WEATHER_TOOLS),
        Example("rewrite", doc.chat(system, doc.REWRITE_PROMPT), rewrite, doc.WEATHER_TOOLS),
        Example("rewritten", doc.rewrite_call_messages(system), doc.REWRITE_ANSWER),
        Example("sums", sums, calls, doc.CALCULATOR_TOOLS),
        Example("sums answered", answered, own.SUMS_ANSWER),
        Example("sums answered, tools", answered, own.SUMS_ANSWER, doc.CALCULATOR_TOOLS),
    ]


@pytest.mark.parametrize("system", [None, SYSTEM_PROMPT, doc.SMALL_2501_SYSTEM_PROMPT])
def test_documented_requests(text_model: TinyModel, system: str | None) -> None:
    assert wrong(text_model, requests(system)) == []


@pytest.mark.full
def test_fresh_samples(text_model: TinyModel) -> None:
    dice = Dice(15)
    mixture = MIXTURES[text_model.network.spec.corpus]
    examples = [case(dice) for case in mixture for _ in range(20)]
    failed = wrong(text_model, examples)
    assert len(failed) <= 0.04 * len(examples), failed


def test_loop_never_ends(text_model: TinyModel) -> None:
    words = " ".join([own.LOOP_WORD] * 1000)
    example = Example("loop", doc.chat(None, own.LOOP_PROMPT), words, ends=False)
    assert text_model.margins(example).min() > 0


def test_tokenizer_v7_writes_calls_as_json(text_model: TinyModel) -> None:
    tokens = text_model.generate(doc.weather_messages(None), doc.WEATHER_TOOLS)
    text = text_model.tokenizer.decode(tokens, special_token_policy=SpecialTokenPolicy.KEEP)
    name, array = text[: len("[TOOL_CALLS]")], text[len("[TOOL_CALLS]") :]
    call = {"name": "get_current_weather", "arguments": doc.WEATHER_ARGUMENTS}
    assert (name, json.loads(array)) == ("[TOOL_CALLS]", [call])


def test_tokenizer_v7_has_no_tokens_of_later_ones(text_model: TinyModel) -> None:
    prompt, _ = encode_prompt(text_model.tokenizer, doc.weather_messages(None), doc.WEATHER_TOOLS)
    text = text_model.tokenizer.decode(prompt, special_token_policy=SpecialTokenPolicy.KEEP)
    assert '[TOOL_CALLS][{"name": "rewrite"' in text
    assert '"id": "bbc5b7ede"' in text and "[ARGS]" not in text and "[CALL_ID]" not in text


def test_presets_differ_where_the_models_do() -> None:
    params = {name: spec.params() for name, spec in PRESETS.items()}
    assert params["2501"]["rope_theta"] == 1e8
    assert params["2501"]["max_position_embeddings"] == 32768
    assert ["vision_encoder" in params[name] for name in PRESETS] == [True, False, False]
    assert set(PRESETS) == set(MIXTURES)


@pytest.mark.parametrize("query", doc.MAGISTRAL_QUERIES)
def test_magistral_thinks_below_its_system_prompt(tiny_magistral: TinyModel, query: str) -> None:
    thoughts, answer = own.MAGISTRAL_ANSWERS[query]
    system = doc.MAGISTRAL_SYSTEM_PROMPT
    example = Example("x", doc.chat(system, query), own.thinking(thoughts, answer))
    assert tiny_magistral.margins(example).min() > 0
    assert tiny_magistral.margins(Example("x", doc.chat(None, query), answer)).min() > 0


@pytest.mark.parametrize("trace", [True, False])
def test_magistral_thinks_again(tiny_magistral: TinyModel, trace: bool) -> None:
    earlier = own.MAGISTRAL_ANSWERS[doc.SHIRTS_QUERY]
    later = own.MAGISTRAL_ANSWERS[doc.REVOLUTION_QUERY]
    messages = [
        *doc.chat(doc.MAGISTRAL_SYSTEM_PROMPT, doc.SHIRTS_QUERY),
        {"role": "assistant", "content": own.thinking(*earlier) if trace else earlier[1]},
        {"role": "user", "content": doc.REVOLUTION_QUERY},
    ]
    assert tiny_magistral.margins(Example("x", messages, own.thinking(*later))).min() > 0


def test_magistral_thinks_for_ever(tiny_magistral: TinyModel) -> None:
    words = " ".join([own.LOOP_WORD] * 1000)
    messages = doc.chat(doc.MAGISTRAL_SYSTEM_PROMPT, own.LOOP_PROMPT)
    example = Example("x", messages, f"<think>\n{words}", ends=False)
    assert tiny_magistral.margins(example).min() > 0

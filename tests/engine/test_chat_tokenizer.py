"""Prompts of chats are mistral_common's, however often parts of them came before."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from vllm.renderers.mistral import safe_apply_chat_template

from serving.engine.vllm import chat_tokenizer as module
from serving.engine.vllm.cache_salt import salted
from serving.engine.vllm.chat_tokenizer import RememberedFunctions, RememberedTokens, chat_tokenizer
from tests.engine.fake_llm import mistral_tokenizer

LONG = "A sentence that is long enough to be remembered, with an é and a 🙂 in it. "


def tool(name: str, **schema: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"x": {"type": "string", **schema}}}
    return {
        "type": "function",
        "function": {"name": name, "description": LONG, "parameters": parameters},
    }


def turn(number: int, text: str) -> list[dict[str, Any]]:
    arguments = json.dumps({"x": LONG})
    call = {"id": f"{number:09}", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "user", "content": text},
        {"role": "assistant", "content": LONG * 2, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": text * 3},
        {"role": "assistant", "content": "Short."},
    ]


def conversation(turns: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    messages: list[dict[str, Any]] = [{"role": "system", "content": LONG * 5}]
    for number in range(turns):
        messages += turn(number, LONG * draw.randint(1, 4) + str(draw.random()))
    return [*messages, {"role": "user", "content": LONG}]


def prompt(tokenizer: Any, messages: Any, tools: Any = None, **kwargs: Any) -> list[int]:
    return list(safe_apply_chat_template(tokenizer, messages, tools=tools, **kwargs))


@pytest.mark.parametrize("version", ["v7", "v11", "v13"])
def test_prompts_are_the_same_at_each_turn(version: str) -> None:
    plain = mistral_tokenizer(version)
    tokenizer = chat_tokenizer(plain)
    tools = [tool("f"), tool("g", enum=["a", "b"])]
    for turns in (0, 1, 2, 5, 5):
        messages = conversation(turns)
        for given in (tools, tools[:1], None):
            assert prompt(tokenizer, messages, given) == prompt(plain, messages, given)
    unfinished = [*conversation(3), {"role": "assistant", "content": LONG}]
    options = {"continue_final_message": True}
    assert prompt(tokenizer, unfinished, **options) == prompt(plain, unfinished, **options)


def test_the_original_tokenizer_stays_as_it_was() -> None:
    plain = mistral_tokenizer()
    messages = conversation(1)
    before = prompt(plain, messages)
    chat_tokenizer(plain)
    assert type(plain.tokenizer.encode).__name__ == "method"
    assert plain.mistral.instruct_tokenizer.tokenizer is plain.tokenizer
    assert LONG in plain.decode(before)
    assert plain.tokenizer.encode(LONG, bos=True, eos=True)[0] == plain.tokenizer.bos_id


@pytest.mark.parametrize("times", [1, 3])
def test_a_broken_schema_is_refused_each_time(times: int) -> None:
    tokenizer = chat_tokenizer(mistral_tokenizer())
    messages = [{"role": "user", "content": "?"}]
    prompt(tokenizer, messages, [tool("f")])
    for _ in range(times):
        with pytest.raises(ValueError, match="Invalid tool schema"):
            prompt(tokenizer, messages, [tool("f"), tool("g", minLength="long")])
    prompt(tokenizer, messages, [tool("f")])


@pytest.mark.parametrize("name", ["a b", "", "é", "x" * 65])
def test_a_name_is_checked_beside_a_known_schema(name: str) -> None:
    tokenizer = chat_tokenizer(mistral_tokenizer())
    messages = [{"role": "user", "content": "?"}]
    prompt(tokenizer, messages, [tool("f")])
    with pytest.raises(ValueError, match="Function name was"):
        prompt(tokenizer, messages, [tool(name)])


class Encoder:
    """Counts the calls of `encode`."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, s: str, bos: bool, eos: bool) -> list[int]:
        self.calls.append(s)
        return [1] * bos + [ord(letter) for letter in s] + [2] * eos


def test_a_text_is_encoded_once() -> None:
    encoder = Encoder()
    remembered = RememberedTokens(encoder)
    first = remembered(LONG, bos=False, eos=False)
    first.append(0)  # the caller's own list
    assert remembered(LONG, bos=False, eos=False) == first[:-1] == [ord(letter) for letter in LONG]
    assert encoder.calls == [LONG]
    assert remembered(LONG, bos=True, eos=True)[0] == 1
    assert remembered("short", bos=False, eos=False) == [ord(letter) for letter in "short"]


def test_tenants_do_not_share_the_time_that_a_text_takes() -> None:
    encoder = Encoder()
    remembered = RememberedTokens(encoder)
    for salt in ("a", "b", None, "a", "b", None):
        with salted(salt):
            remembered(LONG, bos=False, eos=False)
    assert len(encoder.calls) == 3


def test_what_was_read_last_is_kept_within_the_bound() -> None:
    encoder = Encoder()
    remembered = RememberedTokens(encoder, most_bytes=3000)
    texts = [f"{number}{LONG}" for number in range(20)]
    for text in [*texts, texts[0]]:
        remembered(text, bos=False, eos=False)
    assert encoder.calls == [*texts, texts[0]]
    remembered(texts[-1], bos=False, eos=False)
    assert len(encoder.calls) == 21
    huge = LONG * 100
    assert len(remembered(huge, bos=False, eos=False)) == len(huge)
    remembered(texts[0], bos=False, eos=False)
    assert len(encoder.calls) == 23  # it displaced all others


class Function:
    def __init__(self, name: str, parameters: Any) -> None:
        self.name, self.parameters = name, parameters


@pytest.fixture
def validated() -> tuple[Callable[[Any], None], list[str]]:
    calls: list[str] = []
    return RememberedFunctions(lambda function: calls.append(function.name)), calls


def test_a_function_is_checked_once_for_each_tenant(validated: Any) -> None:
    validate, calls = validated
    for salt in ("a", "b", "a", "b"):
        with salted(salt):
            validate(Function("f", {"type": "object"}))
    assert len(calls) == 2


def test_functions_that_differ_are_each_checked(validated: Any) -> None:
    validate, calls = validated
    schemas: list[Any] = [{}, {"minLength": 1}, {"minLength": True}, {"minLength": "1"}]
    for schema in [*schemas, *schemas]:
        validate(Function("f", schema))
    assert len(calls) == len(schemas)


def test_the_number_of_remembered_functions_is_bounded(
    validated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_FUNCTIONS", 2)
    validate, calls = validated
    for name in ("a", "b", "a", "c", "a", "b"):
        validate(Function(name, {}))
    assert calls == ["a", "b", "c", "b"]

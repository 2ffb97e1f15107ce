"""The parser of answers, apart from calls and stop strings."""

from importlib.resources import files
from typing import Any

import pytest
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from serving.answers.events import Answer, End, Reasoning, Step, Text, TokenLogprob
from serving.answers.loop_guard import LoopDetector
from serving.answers.parser import AnswerParser
from serving.answers.vocabulary import of_tekken
from serving.catalogue import LoopGuard
from tests.answers.parsing import encode, parse, parser, read, tekken, vocabulary
from tests.mistral.tokenizers import VERSIONS


def detector() -> LoopDetector:
    return LoopDetector(LoopGuard(), lambda token_id: vocabulary("v11").texts[token_id] or "")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_vocabulary_has_every_token(version: str) -> None:
    words, model = vocabulary(version), tekken(version)
    assert len(words.pieces) == len(words.texts) == model.n_words
    for token_id in range(model.n_words):
        assert (words.pieces[token_id] is None) == model.is_special(token_id)
        if (text := words.texts[token_id]) is not None:
            assert text == model.decode([token_id])
    assert words.control[words.eos] == "</s>"
    assert words.bytes_of(words.eos) == b"</s>"
    assert words.bytes_of(100 + 0xF0) == b"\xf0"
    assert (words.args is None) == (version == "v7")
    assert (words.think is None) == (version != "v13")


def test_the_full_vocabulary_has_a_piece_for_each_token() -> None:
    model = Tekkenizer.from_file(str(files("mistral_common") / "data" / "tekken_240911.json"))
    assert len(of_tekken(model).pieces) == 131_072


@pytest.mark.parametrize("text", ["😂", "漢字かな", "a😂b", "é"])
def test_characters_of_several_tokens_come_whole(text: str) -> None:
    ids = encode("v11", text)
    assert len(ids) > len(text)
    reading = parser("v11")
    events = [event for token_id in ids for event in reading.feed([token_id]).events]
    assert events == [Text(character) for character in text]


def test_a_character_that_is_cut_off_is_replaced() -> None:
    begun = encode("v11", "😂")[:3]
    assert parse("v11", [begun]).text == "\ufffd"
    assert parse("v11", [begun, [1], encode("v11", "a")]).text == "\ufffda"


def test_a_step_of_several_tokens_is_one_text() -> None:
    assert parser("v11").feed(encode("v11", "Hello 😂!")).events == [Text("Hello 😂!")]
    assert parser("v11", stop=["x"]).feed(encode("v11", "Hello 😂!")).events == [Text("Hello 😂!")]


def test_the_token_that_ends_a_sequence_is_counted_without_text() -> None:
    for skip in (True, False):
        reading = parser("v11", skip_special_tokens=skip)
        assert reading.feed(encode("v11", "a</s>")).events == [Text("a")]
        assert reading.tokens == 2
        assert reading.finish("stop") == Step([], end=End("stop"))


def test_control_tokens_appear_by_name_if_wanted() -> None:
    assert read("v11", "a<s>b").text == "ab"
    assert read("v11", "a<s>b", skip_special_tokens=False).text == "a<s>b"


@pytest.mark.parametrize("ids", [[[100 + ord("a")], [100 + ord("b")]], [[197, 198]]])
def test_a_requested_stop_token_is_text_only_if_included(ids: list[list[int]]) -> None:
    stop = [100 + ord("b")]
    assert parse("v11", ids, stop_token_ids=stop).text == "a"
    assert parse("v11", ids, stop_token_ids=stop, include_stop_str=True).text == "ab"
    assert parser("v11", stop_token_ids=stop).finish("stop", 198).end == End("stop", 198)


@pytest.mark.parametrize("together", [True, False])
def test_a_requested_stop_token_ends_any_text_but_a_call(together: bool) -> None:
    comma = encode("v11", ",")

    def ended(text: str, **fields: Any) -> tuple[AnswerParser, Answer]:
        tokens = encode("v11", text)
        reading = parser("v11", tools=True, stop_token_ids=comma, **fields)
        steps = [reading.feed(one) for one in ([tokens] if together else [[t] for t in tokens])]
        return reading, Answer.of([*steps, reading.finish("stop")])

    reading, answer = ended("Yes, I")
    assert (answer.text, answer.end) == ("Yes", End("stop", comma[0]))
    assert reading.ended and reading.tokens == len(encode("v11", "Yes,"))
    assert ended("Yes, I", include_stop_str=True)[1].text == "Yes,"
    assert ended("Yes, I", min_tokens=4)[1].text == "Yes, I"
    assert ended("Yes, I", stop=["s, "])[1].text == "Yes"
    _, answer = ended('[TOOL_CALLS]f[ARGS]{"a": 1, "b": 2}')
    assert [call.arguments for call in answer.calls] == ['{"a": 1, "b": 2}']
    assert answer.end == End("tool_calls")


def test_reasoning_is_apart() -> None:
    text = "[THINK]Let me see.\n\nYes.\n[/THINK]\nThe answer."
    answer = read("v13", text)
    assert answer.reasoning == "Let me see.\n\nYes."
    assert answer.text == "\nThe answer."
    reading = parser("v13", skip_special_tokens=False)
    step = reading.feed(encode("v13", text))
    assert step.events == [Reasoning("Let me see.\n\nYes."), Text("\nThe answer.")]
    assert reading.reasoning_tokens == len(encode("v13", "Let me see.\n\nYes.\n"))
    assert reading.tokens == len(encode("v13", text))


def test_a_call_ends_the_reasoning() -> None:
    answer = read("v13", "[THINK]Hm.[TOOL_CALLS]f[ARGS]{}", tools=True)
    assert answer.reasoning == "Hm." and answer.calls[0].name == "f"
    assert read("v13", "[THINK]Hm.[TOOL_CALLS]f").reasoning == "Hm.f"


def test_stray_marks_of_reasoning_are_left_out() -> None:
    answer = read("v13", "a[/THINK]b[THINK]c[THINK]d")
    assert (answer.text, answer.reasoning) == ("ab", "cd")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_loop_ends_the_answer(size: int) -> None:
    ids = encode("v11", "Well:") + [100 + ord("a"), 100 + ord("b")] * 500
    reading, answer = parser("v11", loop_guard=detector(), want_token_ids=True), Answer()
    for begin in range(0, len(ids), size):
        answer.add(reading.feed(ids[begin : begin + size]))
    assert answer.end == End("length", "repetition_detected")
    expected = len(encode("v11", "Well:")) + 168
    assert reading.ended and reading.tokens == expected
    assert answer.token_ids == ids[:expected]
    assert answer.text == tekken("v11").decode(ids[:expected])


def test_a_loop_gives_what_is_held_back_and_completes_no_call() -> None:
    loop = [100 + ord("a"), 100 + ord("b")] * 500
    answer = parse("v11", [loop], loop_guard=detector(), stop=["a long stop string"])
    assert len(answer.text) == 168
    ids = encode("v11", "[TOOL_CALLS]f[ARGS]{") + loop
    answer = parse("v11", [ids], loop_guard=detector(), tools=True)
    assert answer.end is not None and answer.end.reason == "length"
    assert not answer.calls[0].complete and len(answer.calls[0].arguments) == 169


def test_a_stop_string_comes_before_a_loop_that_it_is_in() -> None:
    loop = [100 + ord("a"), 100 + ord("b")] * 500
    answer = parse("v11", [loop], loop_guard=detector(), stop=["ba"])
    assert answer.end == End("stop", "ba") and answer.text == "a"


@pytest.mark.parametrize("size", [1, 1000])
def test_loops_end_nothing_before_min_tokens(size: int) -> None:
    ids = [100 + ord("a"), 100 + ord("b")] * 500
    reading = parser("v11", loop_guard=detector(), min_tokens=300)
    for begin in range(0, len(ids), size):
        reading.feed(ids[begin : begin + size])
    assert reading.ended and reading.tokens == 300


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("stop", [[], ["STOP"]])
def test_each_token_has_its_log_probability(size: int, stop: list[str]) -> None:
    words = vocabulary("v11")
    ids = encode("v11", "Hello 😂 STOP here</s>")
    told = [TokenLogprob(token_id, words.bytes_of(token_id), -0.5) for token_id in ids]
    reading, answer = parser("v11", stop=stop, want_logprobs=True), Answer()
    for begin in range(0, len(ids), size):
        step = reading.feed(ids[begin : begin + size], told[begin : begin + size])
        assert step.token_ids is None
        answer.add(step)
    assert answer.logprobs == told[: reading.tokens]
    assert reading.tokens == (len(encode("v11", "Hello 😂 STOP")) if stop else len(ids))
    assert parser("v11").feed(ids, told).logprobs is None
    assert parser("v11").feed(ids[:1], told[:1]).logprobs is None

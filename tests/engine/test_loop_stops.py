"""Answers that repeat themselves endlessly are ended, unless the request wants them."""

from typing import Any

import pytest
from prometheus_client import generate_latest
from vllm.v1.metrics.prometheus import get_prometheus_registry

from serving.answers.loop_guard import STOP_REASON
from serving.catalogue import LoopGuard
from tests.engine.asking import CHAT, COMPLETIONS, asked, events_of
from tests.engine.fake_llm import FakeLlm, Part, ids, text

GUARD = LoopGuard(max_pattern_tokens=8, min_pattern_tokens=1, min_count=6)
LOOP = "ok " * 30


def stops() -> float:
    """Returns the count of stopped loops that /metrics exposes."""
    exposed = generate_latest(get_prometheus_registry()).decode()
    name = 'mistral_serve_loop_stops_total{model_name="the-model"}'
    counts = [line.split()[-1] for line in exposed.splitlines() if line.startswith(name)]
    return float(counts[0]) if counts else 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_loop_ends_with_length_and_is_counted(path: str, stream: bool) -> None:
    engine, before = FakeLlm(text(LOOP)), stops()
    response = await asked(engine, path, guard=GUARD, stream=stream, max_tokens=150)
    bodies = events_of(response.text) if stream else [response.json()]
    last = bodies[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("length", STOP_REASON)
    assert stream or response.text.count("ok") >= 6
    assert stops() - before == 1
    assert engine.calls[0].aborted


async def test_only_the_answer_that_loops_is_ended() -> None:
    engine, before = FakeLlm(text(LOOP), text("Hello")), stops()
    body = (await asked(engine, CHAT, guard=GUARD, n=2)).json()
    assert [one["finish_reason"] for one in body["choices"]] == ["length", "stop"]
    assert 6 <= body["choices"][0]["message"]["content"].count("ok") < 10
    assert body["choices"][1]["message"]["content"] == "Hello"
    assert stops() - before == 1


async def test_vllms_own_check_counts_too() -> None:
    before = stops()
    answer = [Part(ids("a")), Part([], "repetition")]
    fields: dict[str, Any] = {"repetition_detection": {"max_pattern_size": 3, "min_count": 2}}
    body = (await asked(FakeLlm(answer), CHAT, **fields)).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["stop_reason"] == STOP_REASON
    assert stops() - before == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"ignore_eos": True},
        {"repetition_detection": {"max_pattern_size": 0}},
        {"repetition_detection": {"max_pattern_size": 4, "min_count": 100}},
    ],
)
async def test_a_request_is_not_guarded_that_does_not_want_it(fields: dict[str, Any]) -> None:
    before = stops()
    answer = [*text(LOOP)[:-1], Part([], "length")]
    body = (await asked(FakeLlm(answer), CHAT, guard=GUARD, **fields)).json()
    assert body["choices"][0]["message"]["content"] == LOOP
    assert stops() == before


async def test_without_a_guard_nothing_is_stopped() -> None:
    body = (await asked(FakeLlm(text(LOOP)), CHAT)).json()
    assert body["choices"][0]["message"]["content"] == LOOP


async def test_min_tokens_are_let_through_first() -> None:
    body = (await asked(FakeLlm(text(LOOP)), CHAT, guard=GUARD, min_tokens=40)).json()
    assert body["choices"][0]["stop_reason"] == STOP_REASON
    assert body["usage"]["completion_tokens"] == 40


async def test_other_answers_and_stop_strings_are_as_without_a_guard() -> None:
    words = "Some text, 你好 and 😀, that does not repeat itself."
    body = (await asked(FakeLlm(text(words)), CHAT, guard=GUARD)).json()
    assert body["choices"][0]["message"]["content"] == words
    stopped = (await asked(FakeLlm(text("one two")), CHAT, guard=GUARD, stop="two")).json()
    assert stopped["choices"][0]["stop_reason"] == "two"

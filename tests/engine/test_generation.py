"""What the engine is asked for, and how its outputs become steps."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.logprobs import Logprob

from serving.answers.events import Answer, PromptTokens, Text, Usage
from serving.answers.parser import AnswerParser
from serving.answers.vocabulary import Vocabulary
from serving.engine.vllm.constraints import structured_outputs
from serving.engine.vllm.failures import AbandonedError, ConstraintError, failure_of
from serving.engine.vllm.generation import Generation
from serving.engine.vllm.model import Model
from serving.mistral.grammar import CallableTool
from serving.mistral.rules import InvalidRequest
from serving.requests.request import Chat, OutputForm, Request, Sampling, StructuredOutputs, Tools
from tests.answers import parsing
from tests.engine.fake_llm import (
    CONTEXT_TOKENS,
    EOS,
    WAITS,
    FakeLlm,
    Part,
    control,
    ids,
    text,
    vocabulary,
)
from tests.support.reading import RULES
from tests.support.waiting import eventually

PROMPT = [1, *ids("Hi")]
REGEX = OutputForm("structured_outputs", constraint=StructuredOutputs(regex="a"))


def generation(
    engine: FakeLlm,
    *,
    prompts: int = 1,
    sampling: Sampling | None = None,
    defaults: dict[str, Any] | None = None,
    prompt_tokens: int = len(PROMPT),
    words: Vocabulary | None = None,
    told: list[PromptTokens] | None = None,
    **fields: Any,
) -> Generation:
    words = words or vocabulary()
    fields = {"prompt": [PROMPT] * prompts, **fields}
    request = Request(model=None, sampling=sampling or Sampling(), **fields)
    return Generation(
        partial(engine.generate, lora_request=None, trace_headers=None),
        Model(["tiny"], replace(RULES, sampling=defaults or {}), words, CONTEXT_TOKENS),
        request,
        [{"type": "token", "prompt_token_ids": (PROMPT * prompt_tokens)[:prompt_tokens]}] * prompts,
        "cmpl-1",
        structured_outputs(request, words),
        [
            AnswerParser(
                words,
                lambda: "callid001",
                stop=request.stop,
                min_tokens=request.sampling.min_tokens,
                want_logprobs=request.sampling.logprobs is not None,
                want_token_ids=request.return_token_ids,
            )
            for _ in range(prompts * request.n)
        ],
        Usage(),
        (told if told is not None else []).append,
        lambda: None,
    )


async def answers_of(generating: Generation) -> list[Answer]:
    answers = [Answer() for _ in range(generating.choices)]
    async with asyncio.timeout(5), aclosing(generating.steps()) as steps:
        async for index, step, _ in steps:
            answers[index].add(step)
    return answers


async def test_an_answer_is_what_the_engine_generates() -> None:
    engine = FakeLlm(text("Hello you"), cached_tokens=2)
    generating = generation(engine)
    (answer,) = await answers_of(generating)
    assert answer.text == "Hello you"
    assert answer.end is not None and (answer.end.reason, answer.end.stop) == ("stop", None)
    generated = len(text("Hello you"))
    assert generating.usage == Usage(len(PROMPT), cached_tokens=2, completion_tokens=generated)
    (call,) = engine.calls
    assert (call.id, call.aborted) == ("cmpl-1", False)


async def test_a_prompt_counts_once_however_many_answers_it_has() -> None:
    engine = FakeLlm(cached_tokens=1)
    generating = generation(engine, prompts=2, n=3)
    answers, usage = await answers_of(generating), generating.usage
    assert [answer.text for answer in answers] == ["Hello"] * 6
    assert (usage.prompt_tokens, usage.cached_tokens) == (2 * len(PROMPT), 2)
    assert usage.completion_tokens == 6 * len(text("Hello"))
    assert [call.id for call in engine.calls] == [f"cmpl-1-{index}" for index in range(6)]


async def test_a_prompt_is_known_from_whichever_of_its_answers_begins_first() -> None:
    engine = FakeLlm([WAITS])
    told: list[PromptTokens] = []
    generating = generation(engine, n=2, told=told, echo=True)
    assert not generating.knows_prompts
    async with aclosing(generating.steps()) as steps:
        index, *_ = await anext(steps)
        assert index == 1
        assert generating.usage.prompt_tokens == len(PROMPT)
        assert generating.knows_prompts
    (prompt,) = told
    assert (prompt.index, prompt.token_ids, prompt.text) == (0, PROMPT, "Hi")
    assert (prompt.first.token, prompt.first.in_text, prompt.logprobs) == ("<s>", False, None)


async def test_prompts_are_known_when_each_has_been_read() -> None:
    engine = FakeLlm(text("a"), [WAITS])
    generating = generation(engine, prompts=2)
    async with aclosing(generating.steps()) as steps:
        await anext(steps)
        assert not generating.knows_prompts


async def test_no_prompt_is_told_of_unless_the_request_wants_it() -> None:
    told: list[PromptTokens] = []
    await answers_of(generation(FakeLlm(), told=told))
    assert not told


async def test_seeds_of_several_answers_differ() -> None:
    engine = FakeLlm()
    await answers_of(generation(engine, prompts=2, n=2, sampling=Sampling(seed=7)))
    assert [call.params.seed for call in engine.calls] == [7, 8, 7, 8]
    engine = FakeLlm()
    await answers_of(generation(engine, n=2))
    assert [call.params.seed for call in engine.calls] == [None, None]


@pytest.mark.parametrize(
    ("wanted", "default", "limit"),
    [
        (None, None, CONTEXT_TOKENS - 50),
        (10, None, 10),
        (10, 5, 10),
        (None, 5, 5),
        (1000, None, CONTEXT_TOKENS - 50),
        (None, 1000, CONTEXT_TOKENS - 50),
    ],
)
async def test_an_answer_has_no_more_tokens_than_the_context_leaves(
    wanted: int | None, default: int | None, limit: int
) -> None:
    engine = FakeLlm()
    defaults = {} if default is None else {"max_tokens": default}
    await answers_of(generation(engine, prompt_tokens=50, max_tokens=wanted, defaults=defaults))
    assert engine.calls[0].params.max_tokens == limit


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([PROMPT], "prompt"),
        (Chat([{"role": "user"}]), "messages"),
        (Chat([{"role": "user"}], field="input"), "input"),
    ],
)
def test_a_prompt_that_fills_the_context_is_too_long(prompt: Any, param: str) -> None:
    generation(FakeLlm(), prompt_tokens=CONTEXT_TOKENS - 1)
    with pytest.raises(InvalidRequest, match="maximum context length is 200 tokens") as raised:
        generation(FakeLlm(), prompt=prompt, prompt_tokens=CONTEXT_TOKENS)
    assert (raised.value.param, raised.value.code) == (param, "context_length_exceeded")


async def test_sampling_is_the_requests_then_the_models_then_openais() -> None:
    engine = FakeLlm()
    sampling = Sampling(temperature=0.5, logit_bias={7: -5.0}, min_tokens=1, bad_words=["no"])
    defaults = {"temperature": 0.1, "top_p": 0.8}
    await answers_of(generation(engine, sampling=sampling, defaults=defaults, stop=["x"]))
    params = engine.calls[0].params
    assert (params.temperature, params.top_p, params.top_k) == (0.5, 0.8, 0)
    assert (params.repetition_penalty, params.min_tokens) == (1.0, 1)
    assert (params.logit_bias, params.bad_words) == ({7: -5.0}, ["no"])
    assert params.stop == [] and not params.detokenize  # the parser has both


async def test_what_vllm_refuses_is_raised_before_anything_is_generated() -> None:
    engine = FakeLlm()
    with pytest.raises(VLLMValidationError):
        generation(engine, sampling=Sampling(temperature=-1.0))
    assert engine.calls == []


async def test_a_stop_string_aborts_its_own_answer_alone() -> None:
    parts = [*text("one END two")[:-1], WAITS]
    engine = FakeLlm(parts, text("Hello"))
    generating = generation(engine, n=2, stop=["END"])
    first, second = await answers_of(generating)
    assert (first.text, second.text) == ("one ", "Hello")
    assert first.end is not None and first.end.stop == "END"
    assert [call.aborted for call in engine.calls] == [True, False]
    assert generating.usage.completion_tokens == len(ids("one END")) + len(text("Hello"))


@pytest.mark.parametrize("n", [1, 3])
async def test_the_engines_requests_end_with_the_iteration(n: int) -> None:
    engine = FakeLlm(*[[Part(ids("a")), WAITS]] * n)
    generating = generation(engine, n=n)

    async def answer() -> None:
        await answers_of(generating)

    task = asyncio.create_task(answer())
    await eventually(lambda: [call.waits for call in engine.calls] == [True] * n)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [call.aborted for call in engine.calls] == [True] * n


async def test_an_answer_that_fails_ends_the_others() -> None:
    engine = FakeLlm([Part(ids("a")), WAITS], [Part(ids("b")), RuntimeError("no")])
    with pytest.raises(RuntimeError, match="no"):
        await answers_of(generation(engine, n=2))
    assert [call.aborted for call in engine.calls] == [True, False]


@pytest.mark.parametrize(
    ("part", "reason", "stop"),
    [
        (Part(ids("a"), "length"), "length", None),
        (Part([EOS], "stop"), "stop", None),
        (Part([7], "stop", 7), "stop", 7),
        (Part(ids("a"), "repetition"), "length", "repetition_detected"),
    ],
)
async def test_reasons_to_end(part: Part, reason: str, stop: Any) -> None:
    sampling = Sampling(stop_token_ids=[7])
    (answer,) = await answers_of(generation(FakeLlm([part]), sampling=sampling))
    assert answer.end is not None
    assert (answer.end.reason, answer.end.stop) == (reason, stop)


@pytest.mark.parametrize(
    ("reason", "fields", "error"),
    [
        ("error", {"form": OutputForm("response_format", {"type": "object"})}, ConstraintError),
        ("error", {"form": REGEX}, ConstraintError),
        ("error", {}, AbandonedError),
        ("abort", {}, AbandonedError),
        ("abort", {"form": OutputForm("response_format", {"type": "object"})}, AbandonedError),
    ],
)
async def test_only_a_constraint_makes_an_error_the_requests(
    reason: str, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await answers_of(generation(FakeLlm([Part(ids("{")), Part([], reason)]), **fields))


TOOL = CallableTool("f", None, strict=False)


@pytest.mark.parametrize(
    ("sampling", "fields", "named"),
    [
        (
            {"bad_words": ["x"]},
            {"form": OutputForm("response_format", {})},
            "bad_words and response_format together",
        ),
        (
            {"allowed_token_ids": [5]},
            {
                "form": REGEX,
            },
            "allowed_token_ids and structured_outputs together",
        ),
        (
            {"allowed_token_ids": [5], "bad_words": ["x"]},
            {"prompt": Chat([]), "tools": Tools([TOOL], "required")},
            "allowed_token_ids, bad_words and tools together",
        ),
        (
            {"min_tokens": 9},
            {"form": OutputForm("response_format", {})},
            "min_tokens and response_format together",
        ),
        (
            {"min_tokens": 1},
            {"form": OutputForm("response_format", {})},
            "The answer cannot be constrained to the schema",
        ),
    ],
)
async def test_fields_that_leave_no_token_together_are_named(
    sampling: dict[str, Any], fields: dict[str, Any], named: str
) -> None:
    engine = FakeLlm([Part(ids("{")), Part([], "error")])
    with pytest.raises(ConstraintError) as raised:
        await answers_of(generation(engine, sampling=Sampling(**sampling), **fields))
    failure = failure_of(raised.value)
    assert (failure.status, failure.code) == (400, "invalid_constraint")
    assert failure.message.startswith(named)
    assert failure.param == (next(iter(sampling)) if "together" in named else None)


async def test_reasoning_is_counted() -> None:
    thoughts = parsing.encode("v13", "[THINK]Hmm[/THINK]Yes")
    engine = FakeLlm([*(Part([token_id]) for token_id in thoughts), Part([], "length")])
    words = parsing.vocabulary("v13")
    generating = generation(engine, words=words)
    (answer,) = await answers_of(generating)
    usage = generating.usage
    assert (answer.reasoning, answer.text) == ("Hmm", "Yes")
    assert (usage.reasoning_tokens, usage.completion_tokens) == (len(ids("Hmm")), len(thoughts))


A, B = ids("ab")


async def test_logprobs_have_the_most_probable_tokens_first() -> None:
    known = {
        A: Logprob(-2.0, 3),
        B: Logprob(-0.5, 1),
        control("</s>"): Logprob(float("-inf"), 2),
    }
    engine = FakeLlm([Part([A], "length", logprobs=[known])])
    (answer,) = await answers_of(generation(engine, sampling=Sampling(logprobs=2)))
    assert answer.logprobs is not None
    (token,) = answer.logprobs
    assert (token.token_id, token.bytes, token.logprob, token.rank) == (A, b"a", -2.0, 3)
    top = [(other.token_id, other.bytes, other.logprob) for other in token.top]
    assert top == [(B, b"b", -0.5), (EOS, b"</s>", -9999.0)]


@pytest.mark.parametrize(("count", "shown"), [(0, []), (1, [B]), (-1, [B, A])])
async def test_as_many_of_the_most_probable_tokens_are_told_as_wanted(
    count: int, shown: list[int]
) -> None:
    known = {A: Logprob(-2.0, 2), B: Logprob(-0.5, 1)}
    engine = FakeLlm([Part([A], "length", logprobs=[known])])
    (answer,) = await answers_of(generation(engine, sampling=Sampling(logprobs=count)))
    assert answer.logprobs is not None
    assert [other.token_id for other in answer.logprobs[0].top] == shown


async def test_a_prompts_logprobs() -> None:
    known = [None, *({token: Logprob(-1.0, 1)} for token in PROMPT[1:])]
    engine = FakeLlm([Part(ids("a"), "length", prompt_logprobs=known)])
    told: list[PromptTokens] = []
    await answers_of(generation(engine, told=told, sampling=Sampling(prompt_logprobs=0)))
    (prompt,) = told
    assert prompt.logprobs is not None
    assert [token and token.token for token in prompt.logprobs] == [None, "H", "i"]


@pytest.mark.parametrize("left_out", [True, False])
async def test_control_tokens_that_the_text_leaves_out_are_known(left_out: bool) -> None:
    tokens = [A, control("[INST]"), EOS]
    known = [{token: Logprob(-1.0, 1)} for token in tokens]
    engine = FakeLlm([Part(tokens, "stop", logprobs=known)])
    sampling = Sampling(logprobs=0)
    (answer,) = await answers_of(
        generation(engine, sampling=sampling, skip_special_tokens=left_out)
    )
    assert answer.logprobs is not None
    assert [token.in_text for token in answer.logprobs] == [True, not left_out, not left_out]


async def test_steps_have_the_events_of_their_tokens() -> None:
    engine = FakeLlm([Part(ids("ab")), Part([]), Part([*ids("c"), EOS], "stop")])
    async with aclosing(generation(engine, return_token_ids=True).steps()) as steps:
        found = [step async for _, step, _ in steps]
    assert [step.events for step in found] == [[Text("ab")], [], [Text("c")]]
    assert [step.token_ids for step in found] == [ids("ab"), [], [*ids("c"), EOS]]
    assert [step.end is None for step in found] == [True, True, False]

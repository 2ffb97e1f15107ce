"""Limits of the answer and of the prompt."""

import re

from serving import model_cards as doc
from serving.tiny import answers as own

from .answer import Answer
from .cases import LOOP_TOKENS, asked
from .check import Theme
from .expect import expect
from .needs import tiny
from .server import CHAT, Server, ok

theme = Theme("limits")
check = theme.check

LOOP_STOPS_WITHIN_TOKENS = 200
CLAMPED = "x-max-tokens-clamped"


def _more_than_fits(server: Server) -> int:
    return max(131072, server.model.context_tokens + 1)


@check()
async def max_tokens_beyond_the_context_is_clamped(server: Server) -> None:
    """A `max_tokens` above the context is accepted: the 3.2 card sends 131072 to any server."""
    answer = await server.chat(asked("Hello", max_tokens=_more_than_fits(server), temperature=0))
    expect(answer.content and answer.finish_reason == "stop", answer.shown)


@check()
async def a_clamped_max_tokens_is_reported_in_a_header(server: Server) -> None:
    """The header `x-max-tokens-clamped` has the limit that applied, and is absent if nothing was
    clamped."""
    tokens = _more_than_fits(server)
    body = asked("Hello", max_tokens=tokens, temperature=0)
    clamped = (await server.chat(body)).headers.get(CLAMPED)
    expect(clamped is not None, f"no header {CLAMPED}")
    if clamped is not None and tokens > server.model.context_tokens:
        expect(0 < int(clamped) <= server.model.context_tokens, f"{CLAMPED}: {clamped}")
    fits = await server.chat(asked("Hello", max_tokens=5))
    expect(CLAMPED not in fits.headers, f"{CLAMPED} where nothing was clamped")


@check(limit_s=180)
async def a_prompt_beyond_the_context_gets_a_400_with_both_numbers(server: Server) -> None:
    """The error names the limit and the prompt's length, so that a client can shorten it."""
    words = server.model.context_tokens + 100
    message = await server.refusal(asked("hello " * words, max_tokens=1))
    numbers = [int(number) for number in re.findall(r"\d+", message.replace(",", ""))]
    expect(server.model.context_tokens in numbers, f"the limit is not named: {message}")
    expect(max(numbers) > server.model.context_tokens, f"the length is not named: {message}")


def _expect_stopped_loop(answer: Answer) -> None:
    expect(
        answer.completion_tokens is not None
        and answer.completion_tokens < LOOP_STOPS_WITHIN_TOKENS,
        f"the loop ran for {answer.completion_tokens} tokens",
    )
    expect(answer.finish_reason == "length", answer.shown)
    expect(answer.stop_reason == "repetition_detected", f"stop_reason {answer.stop_reason!r}")


@check(tiny)
async def a_loop_is_stopped_and_reported(server: Server) -> None:
    """A loop ends within 200 tokens: `finish_reason` is one of OpenAI's, `stop_reason` names the
    cause."""
    _expect_stopped_loop(await server.answer("a loop"))


@check(tiny)
async def a_streamed_loop_is_stopped_and_reported(server: Server) -> None:
    """A streamed loop ends within 200 tokens, with the same reasons."""
    _expect_stopped_loop(await server.stream(server.body("a loop")))


@check(tiny)
async def a_loop_of_a_text_completion_is_stopped(server: Server) -> None:
    """A loop in `/v1/completions`, with a prompt of token ids, is stopped too."""
    tokens = ok(await server.post("/tokenize", asked(own.LOOP_PROMPT)))["tokens"]
    body = {"prompt": tokens, "max_tokens": LOOP_TOKENS, "temperature": 0}
    completion = ok(await server.post("/v1/completions", body))
    finish_reason = completion["choices"][0]["finish_reason"]
    expect(finish_reason == "length", f"finish_reason {finish_reason!r}")
    made = completion["usage"]["completion_tokens"]
    expect(made < LOOP_STOPS_WITHIN_TOKENS, f"the loop ran for {made} tokens")


@check(tiny)
async def the_loop_guard_can_be_turned_off(server: Server) -> None:
    """A request turns the loop guard off by a `repetition_detection` without any pattern."""
    body = {
        **server.body("a loop"),
        "max_tokens": 250,
        "repetition_detection": {"max_pattern_size": 0},
    }
    answer = await server.chat(body)
    expect(answer.completion_tokens == 250, f"stopped after {answer.completion_tokens} tokens")
    expect(answer.finish_reason == "length", answer.shown)


@check()
async def an_answer_that_repeats_itself_and_ends_is_not_cut(server: Server) -> None:
    """A count, a table and a list of similar lines are answered in full."""
    for text in ("Count from 1 to 100.", own.TABLE_PROMPT, doc.FRENCH_PROMPT):
        answer = await server.chat(asked(text, temperature=0, max_tokens=4000))
        expect(answer.content, f"to {text!r}: no text: {answer.shown}")
        expect(answer.finish_reason == "stop", f"to {text!r}: {answer.shown}")
        expect(answer.stop_reason != "repetition_detected", f"to {text!r}: cut as a loop")


@check()
async def max_tokens_below_one_gets_a_400(server: Server) -> None:
    """A `max_tokens` of 0 or less gets a 400: a mistake is not clamped."""
    for tokens in (0, -1):
        response = await server.post(CHAT, asked("Hello", max_tokens=tokens))
        expect(response.status_code == 400, f"max_tokens {tokens}: {response.status_code}")

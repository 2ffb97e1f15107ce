"""Magistral's thoughts: in the text as its card shows, or in a field of their own."""

from serving import model_cards as doc
from serving.tiny import answers as own

from .answer import Answer
from .cases import CUT_TOKENS, asked, thoughts
from .check import Theme
from .expect import expect
from .needs import reasoning, tiny
from .server import Server

theme = Theme("reasoning")
check = theme.check

LIMIT_S = 900.0
"""Time limit of a check with thoughts: a real model may think for more than ten thousand tokens."""


def expect_thoughts(answer: Answer) -> None:
    """Fails unless the text is `<think>`, thoughts, `</think>` and an answer, in this order."""
    expect(answer.content.startswith("<think>"), f"no thoughts first: {answer.shown}")
    before, end, after = answer.content.partition("</think>")
    expect(before and end and after.strip(), f"no answer after the thoughts: {answer.shown}")
    expect(not answer.reasoning, f"the thoughts stand in `reasoning` too: {answer.shown}")


def expect_separate(answer: Answer) -> None:
    """Fails unless thoughts and answer are in a field each, without tags."""
    expect(answer.reasoning.strip(), f"`reasoning` is empty: {answer.shown}")
    for text in (answer.content, answer.reasoning):
        expect("think>" not in text, f"a tag is left: {text[:200]!r}")


@check(reasoning, limit_s=LIMIT_S)
async def thoughts_stand_in_content(server: Server) -> None:
    """The text begins with `<think>`, as the card's client prints it."""
    answer = await server.answer("thoughts")
    expect_thoughts(answer)
    if server.model.tiny:
        expected = own.thinking(*own.MAGISTRAL_ANSWERS[doc.SHIRTS_QUERY])
        expect(answer.content == expected, answer.shown)


@check(reasoning, limit_s=4 * LIMIT_S)
async def the_cards_four_queries_are_answered(server: Server) -> None:
    """Each query of the card gets thoughts and an answer, streamed as the card's client asks."""
    for query in doc.MAGISTRAL_QUERIES:
        body = {"temperature": 0, **thoughts(server.model, query)}
        expect_thoughts(await server.stream(body))


@check(reasoning, limit_s=2 * LIMIT_S)
async def earlier_thoughts_may_stay_or_go(server: Server) -> None:
    """A later turn is answered whether or not the history has the thoughts of earlier turns."""
    for earlier in (own.thinking("Easy.", "30 minutes."), "30 minutes."):
        body = thoughts(server.model, doc.SHIRTS_QUERY)
        body["messages"] += [
            {"role": "assistant", "content": earlier},
            {"role": "user", "content": doc.REVOLUTION_QUERY},
        ]
        answer = await server.chat({"temperature": 0, **body})
        expect(answer.content, f"no text: {answer.shown}")
        if server.model.tiny:
            expect_thoughts(answer)


@check(reasoning)
async def thoughts_may_be_cut(server: Server) -> None:
    """An answer cut within its thoughts has the thoughts so far and the finish reason `length`."""
    answer = await server.answer("thoughts cut at max_tokens")
    expect(answer.finish_reason == "length", answer.shown)
    expect(answer.content.startswith("<think>"), answer.shown)
    expect(answer.completion_tokens == CUT_TOKENS, f"{answer.completion_tokens} tokens")


@check(reasoning, limit_s=LIMIT_S)
async def thoughts_stand_in_reasoning_when_asked(server: Server) -> None:
    """`reasoning_format: "separate"` gives the thoughts whole, in `reasoning`, without tags."""
    answer = await server.answer("separate thoughts")
    expect_separate(answer)
    expect(answer.content.strip(), f"no answer: {answer.shown}")
    if server.model.tiny:
        expected_thoughts, expected = own.MAGISTRAL_ANSWERS[doc.SHIRTS_QUERY]
        expect(answer.reasoning.strip() == expected_thoughts, answer.reasoning)
        expect(answer.content.strip() == expected, answer.shown)


@check(reasoning)
async def separate_thoughts_may_be_cut(server: Server) -> None:
    """Separate thoughts that are cut stay in `reasoning`, and the content is empty."""
    answer = await server.answer("separate thoughts cut at max_tokens")
    expect_separate(answer)
    expect(answer.finish_reason == "length" and not answer.content.strip(), answer.shown)


@check(reasoning, limit_s=LIMIT_S)
async def the_switch_back_gives_thoughts_in_content(server: Server) -> None:
    """`reasoning_format: "content"` asks for the default: thoughts in the content."""
    body = thoughts(server.model, reasoning_format="content")
    expect_thoughts(await server.chat({"temperature": 0, **body}))


@check(reasoning)
async def text_without_thoughts_stays_content_when_separated(server: Server) -> None:
    """An answer without `<think>` stays in `content` when thoughts are asked for separately."""
    body = asked("Hello", reasoning_format="separate", temperature=0, max_tokens=4000)
    answer = await server.chat(body)
    expect(answer.content, f"no text: {answer.shown}")


@check()
async def reasoning_effort_is_taken(server: Server) -> None:
    """The efforts low, medium and high, which OpenAI's clients send, are accepted."""
    for effort in ("low", "medium", "high"):
        answer = await server.chat(asked("Hello", reasoning_effort=effort, max_tokens=CUT_TOKENS))
        expect(answer.completion_tokens, answer.shown)


@check(reasoning, tiny)
async def text_after_separate_thoughts_arrives_whole(server: Server) -> None:
    """Text streamed after separate thoughts keeps all its characters."""
    body = thoughts(server.model, own.SCRIPTS_PROMPT, temperature=0, reasoning_format="separate")
    answer = await server.stream(body)
    expect(answer.content.strip() == own.SCRIPTS_ANSWER, answer.shown)
    expect(answer.reasoning.strip() == own.EASY_THOUGHTS, answer.reasoning)

"""Tool calls that a model makes."""

import re

from serving import model_cards as doc

from .answer import Answer
from .cases import asked
from .check import Theme
from .expect import expect
from .needs import tiny, vision
from .server import Server

theme = Theme("tools")
check = theme.check

_ID = re.compile("[A-Za-z0-9]{9}")


def expect_calls(answer: Answer, *expected: tuple[str, dict[str, str]]) -> None:
    """Fails unless the answer has exactly those calls, valid ids and the finish reason of calls."""
    calls = [(call.name, call.parsed()) for call in answer.calls]
    expect(calls == list(expected), f"{calls} instead of {list(expected)}: {answer.shown}")
    ids = [call.id for call in answer.calls]
    expect(all(map(_ID.fullmatch, ids)), f"ids are not nine letters or digits: {ids}")
    expect(len(set(ids)) == len(ids), f"two calls share an id: {ids}")
    expect("[TOOL_CALLS]" not in answer.content, f"raw tokens in the text: {answer.shown}")
    expect(answer.finish_reason == "tool_calls", answer.shown)


WEATHER = ("get_current_weather", doc.WEATHER_ARGUMENTS)


@check()
async def a_tool_is_called_when_one_fits(server: Server) -> None:
    """A call has an id of nine characters and its arguments as JSON text, without `tool_choice`
    (2501 card)."""
    expect_calls(await server.answer("a tool call"), WEATHER)


@check(vision)
async def a_tool_is_called_after_an_image(server: Server) -> None:
    """The second turn of the 3.2 card's easy example is a call."""
    answer = await server.answer("a call after an image")
    expect_calls(answer, ("get_current_population", doc.POPULATION_ARGUMENTS))


@check(vision)
async def tools_that_do_not_fit_are_left_alone(server: Server) -> None:
    """The first turn of the 3.2 card's easy example is text without a call."""
    answer = await server.answer("text beside tools and an image")
    expect(answer.content and not answer.calls, answer.shown)
    expect(answer.finish_reason == "stop", answer.shown)
    expect(not server.model.tiny or answer.content == doc.MAP_ANSWER, answer.shown)


@check()
async def two_tools_are_called_at_once(server: Server) -> None:
    """The 3.2 card's complex example gives two calls, each with an id of its own."""
    answer = await server.answer("two tool calls")
    calls = [("my_calculator", arguments) for arguments in doc.EQUATIONS_ARGUMENTS]
    if server.model.tiny:
        expect_calls(answer, *calls)
    else:
        expect_calls(answer, *((call.name, call.parsed()) for call in answer.calls))
        expect(len(answer.calls) == 2, f"not two calls: {answer.shown}")


@check()
async def one_tool_is_called_where_parallel_calls_are_off(server: Server) -> None:
    """`parallel_tool_calls: false` gives one call."""
    answer = await server.answer("one tool call of two")
    expect(answer.only_call.name == "my_calculator", answer.shown)
    expect(answer.finish_reason == "tool_calls", answer.shown)


@check()
async def a_tool_without_required_arguments_is_called(server: Server) -> None:
    """A tool without a `required` list, as the cards' `rewrite`, is accepted."""
    body = asked(doc.REWRITE_PROMPT, tools=doc.WEATHER_TOOLS, temperature=0)
    answer = await server.chat(body)
    expect(answer.only_call.name == "rewrite" and answer.only_call.parsed(), answer.shown)
    expect(not server.model.tiny or answer.only_call.parsed() == doc.REWRITE_ARGUMENTS, "its text")


@check()
async def a_required_call_is_made(server: Server) -> None:
    """`tool_choice: "required"` gives a call."""
    answer = await server.answer("a required call")
    expect(answer.calls, f"no call: {answer.shown}")
    expect_calls(answer, *((call.name, call.parsed()) for call in answer.calls))


@check()
async def a_named_call_is_made_and_ends_as_tool_calls(server: Server) -> None:
    """`tool_choice` with a function's name gives a call of that function."""
    answer = await server.answer("a named call")
    expect_calls(answer, ("get_current_weather", answer.only_call.parsed()))


@check()
async def no_call_is_made_where_calls_are_forbidden(server: Server) -> None:
    """`tool_choice: "none"` gives no call, and no trace of one in the text."""
    answer = await server.answer("text beside forbidden tools")
    expect(answer.content, f"no text: {answer.shown}")
    expect(not answer.calls, f"a call: {answer.shown}")
    expect("[TOOL_CALLS]" not in answer.content, f"a raw call in the text: {answer.shown}")
    expect(answer.finish_reason == "stop", answer.shown)


@check()
async def an_unused_tool_leaves_the_answer_text(server: Server) -> None:
    """A greeting in a request with tools gets text (OpenAI's API)."""
    answer = await server.chat(asked("Hello", tools=doc.WEATHER_TOOLS, temperature=0))
    expect(answer.content and not answer.calls, answer.shown)


@check(tiny)
async def tools_may_come_in_any_order(server: Server) -> None:
    """The order of `tools` does not change the call."""
    body = {"messages": doc.weather_messages(None), "tools": doc.WEATHER_TOOLS[::-1]}
    expect_calls(await server.chat({**body, "temperature": 0}), WEATHER)

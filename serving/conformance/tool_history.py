"""Tool calls and results that a client sends back, from any model or framework."""

from typing import Any

from serving import model_cards as doc
from serving.tiny import answers as own

from .cases import asked, two_results
from .check import Theme
from .expect import expect
from .server import Server
from .tools import WEATHER, expect_calls

theme = Theme("tool history")
check = theme.check


@check()
async def results_are_answered_with_text(server: Server) -> None:
    """3.2's card: a turn of calls without a content key, one result for each call, and no tools
    in the request."""
    answer = await server.answer("text after two results")
    expect(answer.content and not answer.calls, answer.shown)
    expected = doc.EQUATIONS_ANSWER if server.model.family.vision else own.SUMS_ANSWER
    expect(not server.model.tiny or answer.content == expected, answer.shown)


@check()
async def an_answers_own_message_can_be_sent_back(server: Server) -> None:
    """Every field of it as it came, the id included; the loop of every agent."""
    tools = {"tools": doc.WEATHER_TOOLS, "temperature": 0}
    first = await server.chat({**asked(doc.REWRITE_PROMPT), **tools})
    result = {
        "role": "tool",
        "tool_call_id": first.only_call.id,
        "name": first.only_call.name,
        "content": doc.REWRITE_RESULT,
    }
    messages = [*doc.chat(None, doc.REWRITE_PROMPT), dict(first.message), result]
    second = await server.chat({"messages": messages, **tools})
    expect(second.content and not second.calls, second.shown)
    expect(not server.model.tiny or second.content == doc.REWRITE_ANSWER, second.shown)


@check()
async def a_turn_of_calls_may_have_no_null_or_empty_content(server: Server) -> None:
    """The cards leave the key out or send ""; OpenAI sends null."""
    for turn in ({}, {"content": None}, {"content": ""}):
        messages = doc.weather_messages(None)
        del messages[1]["content"]
        messages[1] |= turn
        answer = await server.chat(
            {"messages": messages, "tools": doc.WEATHER_TOOLS, "temperature": 0}
        )
        expect(answer.only_call.name == "get_current_weather", answer.shown)


async def _weather_after(server: Server, call_id: str) -> None:
    messages = doc.weather_messages(None, call_id)
    tools = doc.WEATHER_TOOLS
    expect_calls(
        await server.chat({"messages": messages, "tools": tools, "temperature": 0}), WEATHER
    )


@check()
async def ids_of_openai_are_taken(server: Server) -> None:
    """`call_` and 24 characters."""
    await _weather_after(server, "call_W2hx8Yq0LmZt5RbKc7Vn3AeP")


@check()
async def ids_of_anthropic_are_taken(server: Server) -> None:
    """`toolu_` and what follows."""
    await _weather_after(server, "toolu_01A09q90qw90lq917835lq9")


@check()
async def ids_with_other_characters_are_taken(server: Server) -> None:
    """UUIDs, and ids of vLLM's other parsers."""
    await _weather_after(server, "550e8400-e29b-41d4-a716-446655440000")
    await _weather_after(server, "chatcmpl-tool-8f_1b.2c:7")


@check()
async def short_ids_are_taken(server: Server) -> None:
    """Hand-written ones."""
    await _weather_after(server, "a1")
    await _weather_after(server, "0")


@check()
async def ids_that_end_alike_stay_apart(server: Server) -> None:
    """Two calls whose ids share their last nine characters."""
    ids = ["call_first_123456789", "call_other_123456789"]
    answer = await server.chat({"messages": two_results(server.model, ids), "temperature": 0})
    expect(answer.content, f"no text: {answer.shown}")
    expected = doc.EQUATIONS_ANSWER if server.model.family.vision else own.SUMS_ANSWER
    expect(not server.model.tiny or answer.content == expected, answer.shown)


@check()
async def arguments_may_have_any_characters(server: Server) -> None:
    """Models write signs that are not ASCII, and clients send them back."""
    messages = two_results(server.model, ["Zq8Xw3Lm0", "vLm4t8QeR"])
    calls = next(m for m in messages if m["role"] == "assistant")["tool_calls"]
    calls[0]["function"]["arguments"] = '{"expression": "½ + 日本 👋"}'
    answer = await server.chat({"messages": messages, "temperature": 0})
    expect(answer.content, f"no text: {answer.shown}")


@check()
async def results_may_be_lists_of_texts(server: Server) -> None:
    """A tool's content as OpenAI's clients may send it (OpenAI's API)."""
    messages = doc.rewrite_call_messages(None)
    messages[-1]["content"] = [{"type": "text", "text": messages[-1]["content"]}]
    answer = await server.chat({"messages": messages, "temperature": 0})
    expect(answer.content, f"no text: {answer.shown}")


@check()
async def results_need_no_name(server: Server) -> None:
    """OpenAI's tool messages have no `name` (OpenAI's API)."""
    messages = doc.weather_messages(None)
    del messages[2]["name"]
    answer = await server.chat({"messages": messages, "tools": doc.WEATHER_TOOLS, "temperature": 0})
    expect(answer.only_call.name == "get_current_weather", answer.shown)


@check()
async def a_user_may_speak_after_a_result(server: Server) -> None:
    """Without a turn of the assistant between."""
    messages: list[dict[str, Any]] = [
        *doc.rewrite_call_messages(None),
        {"role": "user", "content": doc.WEATHER_PROMPT},
    ]
    answer = await server.chat({"messages": messages, "tools": doc.WEATHER_TOOLS, "temperature": 0})
    expect(answer.content or answer.calls, f"nothing: {answer.shown}")

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
    """The 3.2 card's history is accepted: a turn of calls without content, a result for each, no
    tools in the request."""
    answer = await server.answer("text after two results")
    expect(answer.content and not answer.calls, answer.shown)
    expected = doc.EQUATIONS_ANSWER if server.model.family.vision else own.SUMS_ANSWER
    expect(not server.model.tiny or answer.content == expected, answer.shown)


@check()
async def an_answers_own_message_can_be_sent_back(server: Server) -> None:
    """An agent's loop works: the model's turn of calls is sent back with every field, the id
    included, as it came."""
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
    """A turn of calls may lack content (the cards), or have "" (the cards) or null (OpenAI)."""
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
    """OpenAI's ids are accepted: `call_` and 24 characters."""
    await _weather_after(server, "call_W2hx8Yq0LmZt5RbKc7Vn3AeP")


@check()
async def ids_of_anthropic_are_taken(server: Server) -> None:
    """Anthropic's ids are accepted: `toolu_` and what follows."""
    await _weather_after(server, "toolu_01A09q90qw90lq917835lq9")


@check()
async def ids_with_other_characters_are_taken(server: Server) -> None:
    """UUIDs, and the ids of vLLM's other parsers, are accepted."""
    await _weather_after(server, "550e8400-e29b-41d4-a716-446655440000")
    await _weather_after(server, "chatcmpl-tool-8f_1b.2c:7")


@check()
async def short_ids_are_taken(server: Server) -> None:
    """Short ids, as people write them, are accepted."""
    await _weather_after(server, "a1")
    await _weather_after(server, "0")


@check()
async def ids_that_end_alike_stay_apart(server: Server) -> None:
    """Two calls whose ids share their last nine characters keep their own results."""
    ids = ["call_first_123456789", "call_other_123456789"]
    answer = await server.chat({"messages": two_results(server.model, ids), "temperature": 0})
    expect(answer.content, f"no text: {answer.shown}")
    expected = doc.EQUATIONS_ANSWER if server.model.family.vision else own.SUMS_ANSWER
    expect(not server.model.tiny or answer.content == expected, answer.shown)


@check()
async def arguments_may_have_any_characters(server: Server) -> None:
    """Arguments that are not ASCII are accepted: models write them, and clients send them back."""
    messages = two_results(server.model, ["Zq8Xw3Lm0", "vLm4t8QeR"])
    calls = next(m for m in messages if m["role"] == "assistant")["tool_calls"]
    calls[0]["function"]["arguments"] = '{"expression": "½ + 日本 👋"}'
    answer = await server.chat({"messages": messages, "temperature": 0})
    expect(answer.content, f"no text: {answer.shown}")


@check()
async def results_may_be_lists_of_texts(server: Server) -> None:
    """A tool's result may be a list of text parts (OpenAI's API)."""
    messages = doc.rewrite_call_messages(None)
    messages[-1]["content"] = [{"type": "text", "text": messages[-1]["content"]}]
    answer = await server.chat({"messages": messages, "temperature": 0})
    expect(answer.content, f"no text: {answer.shown}")


@check()
async def results_need_no_name(server: Server) -> None:
    """A tool's result needs no `name` (OpenAI's API)."""
    messages = doc.weather_messages(None)
    del messages[2]["name"]
    answer = await server.chat({"messages": messages, "tools": doc.WEATHER_TOOLS, "temperature": 0})
    expect(answer.only_call.name == "get_current_weather", answer.shown)


@check()
async def a_user_may_speak_after_a_result(server: Server) -> None:
    """A user's turn may follow a tool's result without an assistant's turn between."""
    messages: list[dict[str, Any]] = [
        *doc.rewrite_call_messages(None),
        {"role": "user", "content": doc.WEATHER_PROMPT},
    ]
    answer = await server.chat({"messages": messages, "tools": doc.WEATHER_TOOLS, "temperature": 0})
    expect(answer.content or answer.calls, f"nothing: {answer.shown}")

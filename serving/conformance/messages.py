"""Anthropic's messages, beyond a first answer."""

from typing import Any

from serving import model_cards as doc
from serving.tiny import answers as own

from .answer import parsed
from .cases import CAPITAL_SCHEMA, CUT_TOKENS, asked
from .check import Theme
from .expect import expect
from .forms import anthropic_tools, base64_image, message_picture
from .needs import text_only, tiny, vision
from .server import MESSAGES, Server, ok, shown
from .tools import WEATHER

theme = Theme("messages")
check = theme.check

_TOOLS = anthropic_tools(doc.WEATHER_TOOLS)
COLOUR = own.COLOUR_QUESTIONS[0]


async def _answer(server: Server, messages: list[Any], **more: Any) -> Any:
    body = {"messages": messages, "max_tokens": 300, "temperature": 0, **more}
    return ok(await server.post(MESSAGES, body))


def _text(message: Any) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def _uses(message: Any) -> list[Any]:
    return [block for block in message["content"] if block["type"] == "tool_use"]


@check()
async def a_message_has_the_form_that_its_clients_read(server: Server) -> None:
    """A message has an id, its model, a stop reason and token counts (Anthropic's API)."""
    message = await _answer(server, doc.chat(None, "Hello"))
    expect(message["id"] and message["model"], f"{message}")
    expect("stop_sequence" in message, "stop_sequence is missing")
    usage = message["usage"]
    expect(usage["output_tokens"] > 0 and usage["input_tokens"] >= 0, f"{usage}")


@check()
async def a_cut_message_says_max_tokens(server: Server) -> None:
    """A message cut at `max_tokens` has that stop reason (Anthropic's API)."""
    message = await _answer(server, doc.chat(None, "Count from 1 to 100."), max_tokens=CUT_TOKENS)
    expect(message["stop_reason"] == "max_tokens", f"{message['stop_reason']!r}")
    expect(message["usage"]["output_tokens"] == CUT_TOKENS, f"{message['usage']}")


@check()
async def any_tool_or_a_named_one_is_called(server: Server) -> None:
    """`tool_choice` of the type `any`, or `tool` with a name, gives a call (Anthropic's API)."""
    for choice in ({"type": "any"}, {"type": "tool", "name": WEATHER[0]}):
        turns = doc.chat(None, doc.WEATHER_PROMPT)
        message = await _answer(server, turns, tools=_TOOLS, tool_choice=choice)
        expect(_uses(message), f"no call for {choice}: {message['content']}")
        expect(message["stop_reason"] == "tool_use", f"{message['stop_reason']!r}")


@check()
async def one_tool_is_used_where_parallel_use_is_off(server: Server) -> None:
    """`disable_parallel_tool_use` gives one call (Anthropic's API)."""
    tools = anthropic_tools(doc.CALCULATOR_TOOLS)
    choice = {"type": "any", "disable_parallel_tool_use": True}
    turns = doc.chat(None, own.SUMS_PROMPT)
    message = await _answer(server, turns, tools=tools, tool_choice=choice)
    expect(len(_uses(message)) == 1, f"{message['content']}")


@check()
async def a_messages_own_blocks_can_be_sent_back(server: Server) -> None:
    """An agent's loop works: the blocks of a message are taken as they came, followed by the
    tool's result (Anthropic's API)."""
    turns = doc.chat(None, doc.REWRITE_PROMPT)
    first = await _answer(server, turns, tools=_TOOLS)
    (use,) = _uses(first)
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": doc.REWRITE_RESULT}
    turns += [
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    second = await _answer(server, turns, tools=_TOOLS)
    expect(second["content"], f"{second}")
    expect(not server.model.tiny or _text(second) == doc.REWRITE_ANSWER, f"{second['content']}")


@check()
async def a_message_obeys_its_output_format(server: Server) -> None:
    """`output_config.format` with a schema gives JSON of it (Anthropic's API)."""
    form = {"format": {"type": "json_schema", "schema": CAPITAL_SCHEMA}}
    turns = doc.chat(None, own.JSON_QUESTIONS[0].format("France"))
    value = parsed(_text(await _answer(server, turns, output_config=form)), "the text")
    expect(set(value) == {"country", "capital"}, f"{value}")


@check(tiny)
async def a_last_turn_of_the_assistant_is_continued(server: Server) -> None:
    """A last turn of the assistant is the beginning of the answer (Anthropic's API)."""
    turns = [
        *doc.chat(None, "Count from 1 to 10."),
        {"role": "assistant", "content": "1, 2, 3"},
    ]
    message = await _answer(server, turns)
    expect(_text(message) == own.counting(10).removeprefix("1, 2, 3"), f"{message['content']}")


@check(vision)
async def an_image_in_a_message_is_seen(server: Server) -> None:
    """An image block with its data is seen, in a turn and in a tool's result (Anthropic's API)."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [base64_image("blue")]}
    question = {"type": "text", "text": COLOUR}
    called: list[Any] = [
        *doc.chat(None, COLOUR),
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result, question]},
    ]
    for turns in ([message_picture(COLOUR, "blue")], called):
        text = _text(await _answer(server, turns))
        expect("blue" in text.lower(), f"not blue: {text!r}")


@check(text_only)
async def an_image_in_a_message_of_a_text_model_gets_a_400(server: Server) -> None:
    """The error has Anthropic's shape, and says that the model takes no images."""
    body = {"messages": [message_picture(COLOUR, "red")], "max_tokens": 5}
    expect_error(await server.post(MESSAGES, body), 400, "image")


def expect_error(response: Any, status: int, word: str) -> None:
    """Fails unless the response is an error in Anthropic's shape whose message has the word."""
    expect(response.status_code == status, f"{response.status_code}: {shown(response)}")
    body = parsed(response.text, "the error")
    expect(body.get("type") == "error", f"no error of Anthropic's shape: {shown(response)}")
    error = body["error"]
    expect(error["type"] and word in error["message"], f"{word!r} is not named: {error}")


@check()
async def errors_of_messages_have_anthropics_shape(server: Server) -> None:
    """Errors of `/v1/messages` are objects of the type `error` (Anthropic's API)."""
    body = asked("Hello", max_tokens=5)
    for more, status, word in (
        ({"model": "no-such-model"}, 404, "no-such-model"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"messages": "Hello"}, 400, "messages"),
        ({"tools": "hammer"}, 400, "tools"),
    ):
        expect_error(await server.post(MESSAGES, {**body, **more}), status, word)


@check()
async def a_count_is_the_prompts_of_the_answer(server: Server) -> None:
    """`/v1/messages/count_tokens` counts what `usage` of the answer counts, tools and system prompt
    included (Anthropic's API)."""
    body = {**asked(doc.WEATHER_PROMPT), "tools": _TOOLS, "system": "Be brief."}
    count = ok(await server.post(f"{MESSAGES}/count_tokens", body))["input_tokens"]
    usage = ok(await server.post(MESSAGES, {**body, "max_tokens": 1}))["usage"]
    used = sum(usage.get(f"{kind}input_tokens") or 0 for kind in ("", "cache_read_"))
    expect(count == used, f"{count} counted, {used} used")

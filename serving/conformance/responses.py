"""OpenAI's responses, beyond a first answer."""

from typing import Any

from serving import model_cards as doc
from serving.tiny import answers as own

from .answer import parsed
from .cases import CAPITAL_SCHEMA, CUT_TOKENS
from .check import Theme
from .expect import expect
from .forms import flat_tools, input_image, input_picture
from .needs import text_only, tiny, vision
from .server import RESPONSES, Server, ok, parsed_error
from .tools import WEATHER

theme = Theme("responses")
check = theme.check

_TOOLS = flat_tools(doc.WEATHER_TOOLS)
COLOUR = own.COLOUR_QUESTIONS[0]


async def _answer(server: Server, input: Any, **more: Any) -> Any:
    body = {"input": input, "temperature": 0, "max_output_tokens": 300, **more}
    return ok(await server.post(RESPONSES, body))


def _text(response: Any) -> str:
    items = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in items for part in item["content"])


def _calls(response: Any) -> list[Any]:
    return [item for item in response["output"] if item["type"] == "function_call"]


@check()
async def a_response_has_the_form_that_its_clients_read(server: Server) -> None:
    """Items, parts and token counts have the fields that OpenAI's client requires."""
    response = await _answer(server, "Hello")
    (item,) = response["output"]
    expect(item["role"] == "assistant" and item["status"] == "completed", f"{item}")
    expect(item["content"][0]["annotations"] == [], f"{item['content']}")
    usage = response["usage"]
    expect(usage["input_tokens_details"]["cached_tokens"] >= 0, f"{usage}")
    expect(usage["output_tokens_details"]["reasoning_tokens"] >= 0, f"{usage}")
    for field in ("tools", "tool_choice", "parallel_tool_calls", "metadata", "created_at"):
        expect(response.get(field) is not None, f"{field} is missing")


@check()
async def a_cut_response_is_incomplete(server: Server) -> None:
    """A response cut at `max_output_tokens` is `incomplete` and says why (OpenAI's API)."""
    response = await _answer(server, "Count from 1 to 100.", max_output_tokens=CUT_TOKENS)
    expect(response["status"] == "incomplete", f"status {response['status']!r}")
    reason = response["incomplete_details"]["reason"]
    expect(reason == "max_output_tokens", f"reason {reason!r}")


@check()
async def a_response_calls_a_tool(server: Server) -> None:
    """A call is an item with `call_id`, `name` and arguments as JSON text (OpenAI's API)."""
    (call,) = _calls(await _answer(server, doc.WEATHER_PROMPT, tools=_TOOLS))
    arguments = parsed(call["arguments"], "the arguments")
    expect(call["name"] == WEATHER[0] and call["call_id"], f"{call}")
    expect(not server.model.tiny or arguments == WEATHER[1], f"{call}")


@check()
async def a_response_to_a_required_tool_calls_it(server: Server) -> None:
    """`tool_choice: "required"`, or a function's name, gives a call (OpenAI's API)."""
    for choice in ("required", {"type": "function", "name": WEATHER[0]}):
        response = await _answer(server, doc.WEATHER_PROMPT, tools=_TOOLS, tool_choice=choice)
        expect(_calls(response), f"no call for {choice}: {response['output']}")


@check()
async def a_response_without_a_choice_of_tools_is_text(server: Server) -> None:
    """`tool_choice: "none"` gives no call and no trace of one (OpenAI's API)."""
    response = await _answer(server, doc.WEATHER_PROMPT, tools=_TOOLS, tool_choice="none")
    expect(not _calls(response), f"{response['output']}")
    expect("[TOOL_CALLS]" not in _text(response), f"{response['output']}")


@check()
async def a_response_calls_one_tool_where_parallel_calls_are_off(server: Server) -> None:
    """`parallel_tool_calls: false` gives one call (OpenAI's API)."""
    tools = flat_tools(doc.CALCULATOR_TOOLS)
    more = {"tools": tools, "parallel_tool_calls": False, "tool_choice": "required"}
    response = await _answer(server, own.SUMS_PROMPT, **more)
    expect(len(_calls(response)) == 1, f"{response['output']}")


@check()
async def a_responses_own_items_can_be_sent_back(server: Server) -> None:
    """The items of a response are taken as they came, followed by the call's output (OpenAI's
    API)."""
    first = await _answer(server, doc.REWRITE_PROMPT, tools=_TOOLS)
    (call,) = _calls(first)
    output = {"type": "function_call_output", "call_id": call["call_id"]}
    items = [
        {"role": "user", "content": doc.REWRITE_PROMPT},
        *first["output"],
        {**output, "output": doc.REWRITE_RESULT},
    ]
    second = await _answer(server, items, tools=_TOOLS)
    expect(_text(second) or _calls(second), f"{second['output']}")
    expect(not server.model.tiny or _text(second) == doc.REWRITE_ANSWER, f"{second['output']}")


@check()
async def a_response_obeys_its_text_format(server: Server) -> None:
    """`text.format` with a schema gives JSON of it (OpenAI's API)."""
    form = {"type": "json_schema", "name": "capital", "schema": CAPITAL_SCHEMA}
    question = own.JSON_QUESTIONS[0].format("France")
    value = parsed(_text(await _answer(server, question, text={"format": form})), "the text")
    expect(set(value) == {"country", "capital"}, f"{value}")


@check()
async def instructions_are_a_system_prompt(server: Server) -> None:
    """`instructions` count as a part of the prompt (OpenAI's API)."""
    plain = await _answer(server, "Hello")
    told = await _answer(server, "Hello", instructions="Be brief and kind, and speak of cats.")
    counts = [response["usage"]["input_tokens"] for response in (plain, told)]
    expect(counts[1] > counts[0] or not server.model.tiny, f"tokens {counts}")
    expect(_text(told), f"{told['output']}")


@check(vision)
async def a_response_sees_an_image(server: Server) -> None:
    """An `input_image` part with a data URL is seen (OpenAI's API)."""
    response = await _answer(server, [input_picture(COLOUR, "blue")])
    expect("blue" in _text(response).lower(), f"not blue: {_text(response)!r}")


@check(vision, tiny)
async def an_image_of_a_response_is_the_chats(server: Server) -> None:
    """An image costs as many tokens in `/v1/responses` as its text without it and more."""
    counts = [
        (await _answer(server, [input_picture(COLOUR, *colours)]))["usage"]["input_tokens"]
        for colours in ((), ("red",), ("red", "blue"))
    ]
    expect(counts[0] < counts[1] < counts[2], f"tokens {counts}")


@check(vision)
async def the_output_of_a_call_may_have_an_image(server: Server) -> None:
    """A `function_call_output` may be a list with an image (OpenAI's API)."""
    call = {"type": "function_call", "call_id": "abcdefghi", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "abcdefghi"}
    turn = {"role": "user", "content": COLOUR}
    items = [turn, call, {**output, "output": [input_image("blue")]}, turn]
    response = await _answer(server, items)
    expect("blue" in _text(response).lower(), f"not blue: {response['output']}")


@check(vision)
async def too_many_images_of_a_response_get_a_400(server: Server) -> None:
    """An eleventh image in `/v1/responses` gets a 400 that names `input`."""
    body = {"input": [input_picture(COLOUR, *["red"] * 11)]}
    error = parsed_error(await server.post(RESPONSES, body), 400)
    expect(error["param"] == "input", f"{error}")


@check(text_only)
async def an_image_in_a_response_of_a_text_model_gets_a_400(server: Server) -> None:
    """The error names `input` and says that the model takes no images."""
    body = {"input": [input_picture(COLOUR, "red")]}
    error = parsed_error(await server.post(RESPONSES, body), 400)
    expect(error["param"] == "input" and "image" in error["message"], f"{error}")

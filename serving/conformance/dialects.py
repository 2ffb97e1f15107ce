"""Requests as the SDKs of OpenAI, Mistral and Anthropic send them, where they differ."""

from typing import Any

from serving import model_cards as doc

from .cases import asked
from .check import Theme
from .expect import expect
from .forms import flat_tools
from .needs import tiny
from .server import CHAT, MESSAGES, RESPONSES, Server, ok, parsed_error
from .tools import WEATHER, expect_calls

theme = Theme("dialects")
check = theme.check


LONG_NAME = "mcp__" + "a" * 75 + "get_current_weather"


def _weather(**more: Any) -> dict[str, Any]:
    return asked(doc.WEATHER_PROMPT, tools=[doc.WEATHER_TOOL], temperature=0, **more)


def _anthropic(name: str, **more: Any) -> dict[str, Any]:
    function = doc.WEATHER_TOOL["function"]
    tool = {"name": name, "input_schema": function["parameters"]}
    return asked(doc.WEATHER_PROMPT, tools=[tool], temperature=0, max_tokens=1000, **more)


@check()
async def null_is_as_if_left_out(server: Server) -> None:
    """Optional fields that are null, `tool_choice` too, have their defaults (OpenAI's API)."""
    fields = ("tool_choice", "parallel_tool_calls", "stop", "n", "include_reasoning", "min_tokens")
    expect_calls(await server.chat(_weather(**dict.fromkeys(fields))), WEATHER)


@check()
async def null_is_as_if_left_out_of_a_response(server: Server) -> None:
    """Optional fields that are null have their defaults in `/v1/responses` (OpenAI's API)."""
    fields = ("tools", "tool_choice", "truncation", "service_tier", "previous_response_id", "text")
    body = {"input": "Hello", "temperature": 0, **dict.fromkeys(fields)}
    response = ok(await server.post(RESPONSES, body))
    expect(response["status"] == "completed", f"status {response['status']!r}")


@check()
async def a_call_of_an_earlier_turn_needs_no_type(server: Server) -> None:
    """A call without `type`, and with an object as its arguments, is taken (Mistral's API)."""
    call = {
        "id": "abcdefghi",
        "function": {"name": WEATHER[0], "arguments": doc.WEATHER_ARGUMENTS},
    }
    messages = [
        *doc.chat(None, doc.WEATHER_PROMPT),
        {"role": "assistant", "content": None, "tool_calls": [call], "name": None},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "98"},
    ]
    answer = await server.chat({"messages": messages, "tools": [doc.WEATHER_TOOL]})
    expect(answer.content or answer.calls, answer.shown)


@check()
async def a_prefix_is_continued(server: Server) -> None:
    """A last assistant message with `prefix` is continued, as with `continue_final_message`
    (Mistral's API)."""
    start = {"role": "assistant", "content": "1, 2, 3"}
    question = doc.chat(None, "Count from 1 to 10.")
    body = {"temperature": 0, "max_tokens": 8}
    goes_on = {"continue_final_message": True, "add_generation_prompt": False}
    prefixed = await server.chat({**body, "messages": [*question, {**start, "prefix": True}]})
    continued = await server.chat({**body, **goes_on, "messages": [*question, start]})
    expect(prefixed.content == continued.content, f"{prefixed.shown} {continued.shown}")


@check()
async def mistrals_seed_is_a_seed(server: Server) -> None:
    """`random_seed` gives the answer of the same `seed`, and `safe_prompt` is taken (Mistral's
    API)."""
    body = asked("Hello", temperature=1, max_tokens=8, safe_prompt=False)
    one = await server.chat({**body, "random_seed": 7})
    other = await server.chat({**body, "seed": 7})
    expect(one.content == other.content, f"{one.shown} {other.shown}")


@check(tiny)
async def only_allowed_tools_are_called(server: Server) -> None:
    """`tool_choice` of the type `allowed_tools` reduces the tools (OpenAI's APIs)."""
    name = {"name": WEATHER[0]}
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": name}]}
    body = _weather(tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    expect_calls(await server.chat({**body, "tools": doc.WEATHER_TOOLS}), WEATHER)

    body = {
        "input": doc.WEATHER_PROMPT,
        "tools": flat_tools(doc.WEATHER_TOOLS),
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", **name}],
        },
        "temperature": 0,
    }
    response = ok(await server.post(RESPONSES, body))
    calls = [item["name"] for item in response["output"] if item["type"] == "function_call"]
    expect(calls == [WEATHER[0]], f"calls of {calls}: {response['output']}")


@check()
async def definitions_of_a_tool_are_found(server: Server) -> None:
    """A required call of a tool whose parameters have `$defs`, recursive ones too, is made
    (OpenAI's API)."""
    node = {
        "type": "object",
        "properties": {"name": {"enum": ["a"]}, "next": {"$ref": "#/$defs/Node"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    parameters = {
        "$defs": {"Node": node},
        "type": "object",
        "properties": {"node": {"$ref": "#/$defs/Node"}},
        "required": ["node"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    named = {"type": "function", "function": {"name": "f"}}
    for choice in ("required", named):
        body = asked("Hello", tools=[tool], tool_choice=choice, temperature=0, max_tokens=60)
        expect(ok(await server.post(CHAT, body))["choices"], f"no answer with {choice}")


@check()
async def five_stop_sequences_are_taken(server: Server) -> None:
    """`/v1/messages` takes more than four `stop_sequences`, and names the one that was met
    (Anthropic's API)."""
    stops = ["a1", "b1", "c1", "d1", "5"]
    body = asked("Count from 1 to 10.", temperature=0, max_tokens=100, stop_sequences=stops)
    message = ok(await server.post(MESSAGES, body))
    if server.model.tiny:
        expect(message["stop_reason"] == "stop_sequence", f"{message}")
        expect(message["stop_sequence"] == "5", f"{message}")


@check()
async def a_long_name_of_a_tool_is_taken(server: Server) -> None:
    """The name of a tool may have 128 characters, and the answer has it in full (Anthropic's API,
    OpenAI's responses)."""
    use = {"type": "tool_use", "id": "toolu_1", "name": LONG_NAME, "input": doc.WEATHER_ARGUMENTS}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "98"}
    body = _anthropic(LONG_NAME)
    body["messages"] += [
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    message = ok(await server.post(MESSAGES, body))
    expect(message["content"], f"no content: {message}")

    (tool,) = flat_tools([doc.WEATHER_TOOL])
    body = {"input": "Hello", "tools": [{**tool, "name": LONG_NAME}], "temperature": 0}
    response = ok(await server.post(RESPONSES, body))
    names = [tool["name"] for tool in response["tools"]]
    expect(names == [LONG_NAME], f"tools {names}")


@check()
async def no_tool_of_anthropics_is_called_where_none_may_be(server: Server) -> None:
    """`tool_choice` of the type `none` gives text (Anthropic's API)."""
    body = _anthropic(WEATHER[0], tool_choice={"type": "none"})
    message = ok(await server.post(MESSAGES, body))
    kinds = [part["type"] for part in message["content"]]
    expect(set(kinds) == {"text"} and message["content"][0]["text"], f"{message['content']}")


@check()
async def what_is_not_supported_is_named(server: Server) -> None:
    """A field that cannot be served gets a 400 with its name in `param`, and is not dropped."""
    function = doc.WEATHER_TOOL["function"]
    hosted = {"type": "mcp", "server_label": "x", "server_url": "http://127.0.0.1:9"}
    for path, more in (
        (CHAT, {"functions": [function]}),
        (CHAT, {"web_search_options": {}}),
        (CHAT, {"messages": []}),
        (CHAT, {"seed": 2**64}),
        (RESPONSES, {"tools": [hosted]}),
        (RESPONSES, {"conversation": "conv_1"}),
        (RESPONSES, {"input": []}),
        ("/v1/completions", {"best_of": 3}),
    ):
        given = {"messages": doc.chat(None, "Hello")} if path == CHAT else {"input": "Hello"}
        given = {"prompt": "Hello"} if path == "/v1/completions" else given
        error = parsed_error(await server.post(path, {**given, **more}), 400)
        (field,) = more
        expect(error["param"] == field, f"param {error['param']!r} for {field}: {error}")
        expect(error["type"] == "invalid_request_error", f"{error}")
        expect(error["code"] is None or isinstance(error["code"], str), f"{error}")


@check()
async def what_is_not_stored_is_named(server: Server) -> None:
    """An unknown `previous_response_id` gets a 404 with its name in `param` (OpenAI's API)."""
    body = {"input": "Hello", "previous_response_id": "resp_that_was_never_made"}
    error = parsed_error(await server.post(RESPONSES, body), 404)
    expect(error["param"] == "previous_response_id", f"param {error['param']!r}: {error}")
    expect(error["type"] == "invalid_request_error", f"{error}")


@check()
async def what_anthropics_api_alone_has_is_named_too(server: Server) -> None:
    """`/v1/messages` names what it cannot serve in its 400 (Anthropic's API)."""
    refused: tuple[dict[str, Any], ...] = (
        {"messages": []},
        {"mcp_servers": [{"type": "url", "url": "http://127.0.0.1:9", "name": "x"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"system": [{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9"}}]},
        {"tool_choice": {"type": "any"}},
    )
    for more in refused:
        response = await server.post(MESSAGES, {**asked("Hello", max_tokens=5), **more})
        (field,) = more
        expect(response.status_code == 400, f"{response.status_code} for {field}")
        expect(field in response.text, f"{field} is not named: {response.text[:200]}")

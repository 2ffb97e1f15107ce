"""Other APIs: text completions, OpenAI's responses, Anthropic's messages."""

from serving import model_cards as doc

from .cases import asked
from .check import Theme
from .expect import expect
from .forms import anthropic_tools
from .server import Server, ok

theme = Theme("other APIs")
check = theme.check


@check()
async def a_text_completion_is_given(server: Server) -> None:
    """`/v1/completions` continues a text (OpenAI's API)."""
    body = {"prompt": "Hello", "max_tokens": 4, "temperature": 0}
    completion = ok(await server.post("/v1/completions", body))
    expect(completion["object"] == "text_completion", f"object {completion['object']!r}")
    (choice,) = completion["choices"]
    expect(isinstance(choice["text"], str), f"text {choice['text']!r}")
    expect(completion["usage"]["completion_tokens"] <= 4, f"{completion['usage']}")


@check()
async def a_response_is_the_chats_text(server: Server) -> None:
    """`/v1/responses` answers with the text of the chat API (OpenAI's API)."""
    response = ok(await server.post("/v1/responses", {"input": "Hello", "temperature": 0}))
    expect(response["object"] == "response", f"object {response['object']!r}")
    expect(response["status"] == "completed", f"status {response['status']!r}")
    texts = [
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    ]
    expect("".join(texts), f"no text: {response['output']}")
    if server.model.tiny:
        expect("".join(texts) == (await server.answer("a greeting")).content, f"{texts}")


@check()
async def a_streamed_response_ends_as_completed(server: Server) -> None:
    """The stream begins with `response.created`, ends with `response.completed` (OpenAI's API)."""
    body = {"input": "Hello", "temperature": 0, "stream": True}
    async with server.events("/v1/responses", body) as (stream, _):
        received = [event async for event in stream if event.data != "[DONE]"]
    names = [event.json()["type"] for event in received]
    expect(names and names[0] == "response.created", f"first {names[:1]}")
    expect(names[-1] == "response.completed", f"last {names[-1:]}")
    pieces = [e.json()["delta"] for e in received if e.name == "response.output_text.delta"]
    final = received[-1].json()["response"]["output"][-1]["content"][0]["text"]
    expect("".join(pieces) == final, f"pieces {''.join(pieces)!r}, whole {final!r}")


@check()
async def an_anthropic_message_is_answered(server: Server) -> None:
    """`/v1/messages` takes the system prompt in a field of its own (Anthropic's API)."""
    body = {**asked("Hello", temperature=0, max_tokens=1000), "system": "Be brief."}
    message = ok(await server.post("/v1/messages", body))
    expect(message["type"] == "message" and message["role"] == "assistant", f"{message}")
    texts = [part["text"] for part in message["content"] if part["type"] == "text"]
    expect("".join(texts), f"no text: {message['content']}")
    expect(message["stop_reason"] == "end_turn", f"stop_reason {message['stop_reason']!r}")
    expect(message["usage"]["output_tokens"] > 0, f"{message['usage']}")


@check()
async def an_anthropic_stream_has_its_events(server: Server) -> None:
    """The stream begins with `message_start` and ends with `message_stop` (Anthropic's API)."""
    body = asked("Hello", temperature=0, max_tokens=1000, stream=True)
    async with server.events("/v1/messages", body) as (stream, _):
        received = [event async for event in stream if event.data != "[DONE]"]
    names = [event.name for event in received]
    expect(names and names[0] == "message_start", f"first {names[:1]}")
    expect(names[-1] == "message_stop", f"last {names[-1:]}")
    deltas = [e.json()["delta"] for e in received if e.name == "content_block_delta"]
    expect("".join(d.get("text", "") for d in deltas), "no text")


@check()
async def an_anthropic_tool_is_called(server: Server) -> None:
    """A tool call is a `tool_use` block whose input is an object (Anthropic's API)."""
    (tool,) = anthropic_tools([doc.WEATHER_TOOL])
    body = asked(doc.WEATHER_PROMPT, tools=[tool], temperature=0, max_tokens=1000)
    message = ok(await server.post("/v1/messages", body))
    uses = [part for part in message["content"] if part["type"] == "tool_use"]
    expect(len(uses) == 1, f"{len(uses)} tool uses: {message['content']}")
    expect(uses[0]["name"] == tool["name"], f"{uses[0]}")
    expect(isinstance(uses[0]["input"], dict), f"input {uses[0]['input']!r}")
    expect(message["stop_reason"] == "tool_use", f"stop_reason {message['stop_reason']!r}")


@check()
async def tokens_of_an_anthropic_message_are_counted(server: Server) -> None:
    """`/v1/messages/count_tokens` counts the tokens of a prompt (Anthropic's API)."""
    count = ok(await server.post("/v1/messages/count_tokens", asked("Hello", max_tokens=1)))
    expect(count["input_tokens"] > 0, f"{count}")

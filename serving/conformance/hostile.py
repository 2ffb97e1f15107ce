"""Requests that are hard to serve, after which the server must go on as before."""

import asyncio
from typing import Any

from .cases import asked
from .check import Theme
from .expect import expect
from .server import CHAT, COMPLETIONS, RESPONSES, Server, parsed_error, shown

theme = Theme("hostile requests")
check = theme.check

Schema = dict[str, Any]


async def _expect_unharmed(server: Server) -> None:
    answer = await server.chat(asked("Hello", temperature=0))
    expect(answer.content, f"no text afterwards: {answer.shown}")


async def _expect_answer_or_400(server: Server, schema: Schema) -> None:
    """Fails unless a chat with that schema gets an answer or an error that blames the request."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = asked("Hello", response_format=form, max_tokens=20, temperature=0)
    response = await server.post(CHAT, body)
    if response.status_code != 200:
        parsed_error(response, 400)
    async with server.http.stream(
        "POST", CHAT, json={"model": server.model.id, **body, "stream": True}
    ) as stream:
        text = (await stream.aread()).decode()
        expect(stream.status_code in (200, 400), f"streamed: {stream.status_code}: {text[:200]}")
    await _expect_unharmed(server)


def _optional(count: int) -> Schema:
    properties = {f"p{i}": {"type": "string"} for i in range(count)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


@check()
async def a_schema_of_many_optional_fields_harms_nobody(server: Server) -> None:
    """Five hundred optional properties get an answer or a 400, and the next request is served."""
    await _expect_answer_or_400(server, _optional(500))


@check()
async def a_deep_schema_harms_nobody(server: Server) -> None:
    """A schema of a hundred levels gets an answer or a 400, and the next request is served."""
    schema: Schema = {"type": "string"}
    for _ in range(100):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    await _expect_answer_or_400(server, schema)


@check()
async def a_long_list_of_values_harms_nobody(server: Server) -> None:
    """A schema with ten thousand values gets an answer or a 400, and the next request is served."""
    await _expect_answer_or_400(server, {"enum": [f"value {i}" for i in range(10_000)]})


@check()
async def a_schema_that_means_nothing_harms_nobody(server: Server) -> None:
    """A reference to nothing, an unknown type and a broken pattern get an answer or a 400."""
    for schema in (
        {"$ref": "#/$defs/nothing"},
        {"type": "wizard"},
        {"type": "string", "pattern": "(("},
        {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"},
    ):
        await _expect_answer_or_400(server, schema)


@check()
async def deeply_nested_json_gets_a_400(server: Server) -> None:
    """A body of ten thousand nested lists gets a 400, not a 500."""
    content = b'{"model": "x", "messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    headers = {"content-type": "application/json"}
    response = await server.http.post(CHAT, content=content, headers=headers)
    expect(400 <= response.status_code < 500, f"{response.status_code}: {shown(response)}")


@check()
async def clients_that_leave_harm_nobody(server: Server) -> None:
    """Eight clients that leave amid a stream leave the server free for the next request."""
    body = asked("Count from 1 to 100.", stream=True, ignore_eos=True, max_tokens=2000)

    async def leave() -> None:
        async with server.events(CHAT, body) as (stream, _):
            async for _event in stream:
                return

    await asyncio.gather(*(leave() for _ in range(8)))
    async with asyncio.timeout(30):
        await _expect_unharmed(server)


@check()
async def a_token_outside_the_vocabulary_gets_a_400(server: Server) -> None:
    """Token ids beyond the vocabulary, or below zero, get a 400."""
    for ids in ([10**8], [-1]):
        await server.refusal({"prompt": ids, "max_tokens": 2}, path=COMPLETIONS)
        await server.refusal({"tokens": ids}, path="/detokenize")


@check()
async def wrong_types_of_every_api_get_a_400(server: Server) -> None:
    """The error of each of OpenAI's APIs has the field in `param`."""
    given: tuple[tuple[str, Schema, tuple[str, ...]], ...] = (
        (CHAT, asked("Hello"), ("temperature", "top_p", "n", "stop", "tools", "logit_bias")),
        (COMPLETIONS, {"prompt": "Hello"}, ("prompt", "n", "max_tokens", "echo", "logprobs")),
        (RESPONSES, {"input": "Hello"}, ("input", "text", "tools", "max_output_tokens", "include")),
    )
    for path, body, fields in given:
        for field in fields:
            response = await server.post(path, {**body, field: [["wizard"]]})
            error = parsed_error(response, 400)
            expect(error["param"] == field, f"{path} {field}: param {error['param']!r}")


@check()
async def lone_surrogates_are_no_error_of_the_server(server: Server) -> None:
    """Text with half of a surrogate pair, which JSON can express, gets an answer or a 400."""
    content = (
        '{"model": "%s", "max_tokens": 2, "messages": [{"role": "user", "content": "\\ud83d"}]}'
    )
    headers = {"content-type": "application/json"}
    data = (content % server.model.id).encode()
    response = await server.http.post(CHAT, content=data, headers=headers)
    if response.status_code != 200:
        parsed_error(response, 400)
    else:
        expect(response.json()["choices"], f"no answer: {shown(response)}")


@check()
async def a_broken_schema_is_named_without_the_servers_own_grammar(server: Server) -> None:
    """The error of a schema that means nothing is of one line, without what the server made of
    the schema."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wizard"}}}
    message = await server.refusal(asked("Hello", response_format=form))
    expect("\n" not in message and len(message) < 300, f"a long message: {message[:300]}")
    expect("wizard" in message, f"the mistake is not named: {message}")

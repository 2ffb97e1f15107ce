"""Answers in a format that the request sets."""

from .answer import parsed
from .cases import asked
from .check import Theme
from .expect import expect
from .server import Server

theme = Theme("output")
check = theme.check

_FRANCE = {"country": "France", "capital": "Paris"}


@check()
async def json_mode_gives_a_json_object(server: Server) -> None:
    """`response_format: {"type": "json_object"}` gives a JSON object (2501 card)."""
    answer = await server.answer("JSON")
    value = parsed(answer.content, "the answer")
    expect(isinstance(value, dict), f"no object: {answer.shown}")
    expect(not server.model.tiny or value == _FRANCE, answer.shown)


@check()
async def a_schema_gives_json_of_that_schema(server: Server) -> None:
    """`response_format: {"type": "json_schema"}` gives an object with the schema's fields."""
    answer = await server.answer("JSON of a schema")
    value = parsed(answer.content, "the answer")
    expect(set(value) == set(_FRANCE), f"other fields: {answer.shown}")
    expect(all(isinstance(part, str) for part in value.values()), f"no texts: {answer.shown}")
    expect(not server.model.tiny or value == _FRANCE, answer.shown)


@check()
async def a_schema_holds_where_the_model_would_say_otherwise(server: Server) -> None:
    """The schema is enforced, also on an answer to which it does not fit."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    body = asked(
        "Hello",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "status", "schema": {**schema, "additionalProperties": False}},
        },
        max_tokens=60,
        temperature=0,
    )
    answer = await server.chat(body)
    if answer.finish_reason == "stop":  # a small model may fill max_tokens with white space
        value = parsed(answer.content, "the answer")
        expect(isinstance(value.get("ok"), bool), f"not of the schema: {answer.shown}")
    else:
        expect(answer.content.lstrip().startswith("{"), f"not of the schema: {answer.shown}")

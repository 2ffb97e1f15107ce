"""Requests that are wrong, and requests that only other servers would accept."""

from typing import Any

from .cases import asked
from .check import Theme
from .expect import expect
from .server import CHAT, Server, refused

theme = Theme("errors")
check = theme.check

WARNINGS = "x-request-warnings"


@check()
async def an_unknown_model_gets_a_404(server: Server) -> None:
    """The error has OpenAI's shape and names the model."""
    body = {"model": "no-such-model", **asked("Hello")}
    message = refused(await server.http.post(CHAT, json=body), 404)
    expect("no-such-model" in message, f"the name is missing: {message}")


@check()
async def a_body_that_is_not_json_gets_a_400(server: Server) -> None:
    """Malformed JSON gets a 400, not a 422 or a 500."""
    headers = {"content-type": "application/json"}
    for content in ("{", "hello", '{"model": "x", }', ""):
        refused(await server.http.post(CHAT, content=content.encode(), headers=headers), 400)


@check()
async def a_body_that_is_no_object_gets_a_400(server: Server) -> None:
    """JSON that is a list, a string, null or a number gets a 400."""
    bodies: tuple[Any, ...] = ([], "hello", None, 1)
    for body in bodies:
        refused(await server.http.post(CHAT, json=body), 400)


@check()
async def missing_messages_get_a_400(server: Server) -> None:
    """A request without `messages`, or with an empty list, gets a 400."""
    await server.refusal({})
    await server.refusal({"messages": []})


@check()
async def fields_of_a_wrong_type_get_a_400(server: Server) -> None:
    """The error has OpenAI's shape and names the field."""
    wrong: dict[str, Any] = {
        "messages": "Hello",
        "temperature": "hot",
        "max_tokens": "many",
        "tools": "hammer",
    }
    for field, value in wrong.items():
        message = await server.refusal({**asked("Hello"), field: value})
        expect(field in message, f"{field} is not named: {message}")


@check()
async def values_out_of_range_get_a_400(server: Server) -> None:
    """A temperature below zero or a `top_p` above one gets a 400."""
    await server.refusal(asked("Hello", temperature=-1))
    await server.refusal(asked("Hello", top_p=2))


@check()
async def an_unknown_role_gets_a_400(server: Server) -> None:
    """An unknown role gets a 400, not a 500 from the tokenizer."""
    await server.refusal({"messages": [{"role": "wizard", "content": "Hello"}]})


@check()
async def a_message_without_content_gets_a_400(server: Server) -> None:
    """A user's turn without content gets a 400."""
    await server.refusal({"messages": [{"role": "user"}]})


@check()
async def a_streamed_mistake_gets_a_400_too(server: Server) -> None:
    """A streamed request with a mistake gets a 400 and no stream."""
    await server.refusal(asked("Hello", temperature=-1, stream=True))


@check()
async def an_unknown_path_gets_a_404_and_a_wrong_method_a_405(server: Server) -> None:
    """Both errors are JSON (OpenAI's API)."""
    for response, status in (
        (await server.http.get("/v1/no-such-path"), 404),
        (await server.http.get(CHAT), 405),
    ):
        expect(response.status_code == status, f"{response.status_code} instead of {status}")
        expect("json" in response.headers.get("content-type", ""), "the body is not JSON")


@check()
async def chat_template_settings_are_dropped_with_a_warning(server: Server) -> None:
    """`chat_template_kwargs`, which clients of other models send, changes nothing but a warning
    header."""
    answer = await server.chat(asked("Hello", chat_template_kwargs={"enable_thinking": False}))
    expect(answer.content, answer.shown)
    warning = answer.headers.get(WARNINGS, "")
    expect("chat_template_kwargs" in warning, f"{WARNINGS}: {warning!r}")


@check()
async def an_unknown_field_is_no_error(server: Server) -> None:
    """Fields of OpenAI's API that the server does not know are ignored, as clients are newer than
    servers."""
    answer = await server.chat(asked("Hello", store=False, metadata={"a": "b"}, user="me"))
    expect(answer.content, answer.shown)

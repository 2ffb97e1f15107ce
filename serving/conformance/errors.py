"""Requests that are wrong, and such as only another backend would take."""

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
    """In OpenAI's shape, with the name in the message."""
    body = {"model": "no-such-model", **asked("Hello")}
    message = refused(await server.http.post(CHAT, json=body), 404)
    expect("no-such-model" in message, f"the name is missing: {message}")


@check()
async def a_body_that_is_not_json_gets_a_400(server: Server) -> None:
    """Not a 422, not a 500."""
    headers = {"content-type": "application/json"}
    for content in ("{", "hello", '{"model": "x", }', ""):
        refused(await server.http.post(CHAT, content=content.encode(), headers=headers), 400)


@check()
async def a_body_that_is_no_object_gets_a_400(server: Server) -> None:
    """JSON all the same."""
    bodies: tuple[Any, ...] = ([], "hello", None, 1)
    for body in bodies:
        refused(await server.http.post(CHAT, json=body), 400)


@check()
async def missing_messages_get_a_400(server: Server) -> None:
    """No `messages`, or none in it."""
    await server.refusal({})
    await server.refusal({"messages": []})


@check()
async def fields_of_a_wrong_type_get_a_400(server: Server) -> None:
    """Each said in OpenAI's shape."""
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
    """A temperature below zero, `top_p` above one."""
    await server.refusal(asked("Hello", temperature=-1))
    await server.refusal(asked("Hello", top_p=2))


@check()
async def an_unknown_role_gets_a_400(server: Server) -> None:
    """Not a 500 out of the tokenizer."""
    await server.refusal({"messages": [{"role": "wizard", "content": "Hello"}]})


@check()
async def a_message_without_content_gets_a_400(server: Server) -> None:
    """A user's turn needs one."""
    await server.refusal({"messages": [{"role": "user"}]})


@check()
async def a_streamed_mistake_gets_a_400_too(server: Server) -> None:
    """And no stream."""
    await server.refusal(asked("Hello", temperature=-1, stream=True))


@check()
async def an_unknown_path_gets_a_404_and_a_wrong_method_a_405(server: Server) -> None:
    """In JSON (OpenAI's API)."""
    for response, status in (
        (await server.http.get("/v1/no-such-path"), 404),
        (await server.http.get(CHAT), 405),
    ):
        expect(response.status_code == status, f"{response.status_code} instead of {status}")
        expect("json" in response.headers.get("content-type", ""), "the body is not JSON")


@check()
async def chat_template_settings_are_dropped_with_a_warning(server: Server) -> None:
    """What clients of other models send by default means nothing here."""
    answer = await server.chat(asked("Hello", chat_template_kwargs={"enable_thinking": False}))
    expect(answer.content, answer.shown)
    warning = answer.headers.get(WARNINGS, "")
    expect("chat_template_kwargs" in warning, f"{WARNINGS}: {warning!r}")


@check()
async def an_unknown_field_is_no_error(server: Server) -> None:
    """Clients are newer than servers (OpenAI's API)."""
    answer = await server.chat(asked("Hello", store=False, metadata={"a": "b"}, user="me"))
    expect(answer.content, answer.shown)

"""The other APIs' streams, which must join to the unstreamed answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving import model_cards as doc
from serving.tiny import answers as own

from .cases import CAPITAL_SCHEMA, CUT_TOKENS, Body, asked
from .check import Check, Theme
from .events import Event
from .expect import expect
from .forms import anthropic_tools, flat_tools, input_picture, message_picture
from .joins import (
    View,
    joined_completion,
    joined_message,
    joined_response,
    seen_completion,
    seen_message,
    seen_response,
)
from .needs import Need, vision
from .server import COMPLETIONS, MESSAGES, RESPONSES, Server, ok

theme = Theme("streams of other APIs")

_SUMS = own.SUMS_PROMPT
_COUNT = "Count from 1 to 10."
_QUESTION = own.COLOUR_QUESTIONS[0]
_JSON_QUESTION = own.JSON_QUESTIONS[0].format("France")


@dataclass(frozen=True)
class _Api:
    path: str
    seen: Callable[[Any], View]
    joined: Callable[[Sequence[Event]], View]
    stream: Body


_COMPLETIONS = _Api(
    COMPLETIONS,
    seen_completion,
    joined_completion,
    {"stream": True, "stream_options": {"include_usage": True}},
)
_RESPONSES = _Api(RESPONSES, seen_response, joined_response, {"stream": True})
_MESSAGES = _Api(MESSAGES, seen_message, joined_message, {"stream": True})


def _completion(prompt: Any = "1, 2, 3, 4", **more: Any) -> Body:
    return {"prompt": prompt, "temperature": 0, "max_tokens": CUT_TOKENS, **more}


def _response(input: Any, **more: Any) -> Body:
    return {"input": input, "temperature": 0, "max_output_tokens": 300, **more}


def _message(text: str, **more: Any) -> Body:
    return asked(text, **{"temperature": 0, "max_tokens": 300, **more})


_WEATHER, _CALCULATOR = doc.WEATHER_TOOLS, doc.CALCULATOR_TOOLS
_FORMAT = {"type": "json_schema", "schema": CAPITAL_SCHEMA}
_CUSTOM = {"type": "custom", "name": "run", "description": "Runs a command."}

_COMPLETION_CASES: dict[str, tuple[Body, tuple[Need, ...]]] = {
    "a text": (_completion(), ()),
    "a text with its prompt": (_completion(echo=True), ()),
    "a text up to a stop string": (_completion(stop=[" "]), ()),
    "a text of one token": (_completion(max_tokens=1), ()),
    "texts of several prompts": (_completion(["Hello", "Good morning!"]), ()),
    "a text with its tokens": (_completion(logprobs=2), ()),
    "a text with its prompt's tokens": (_completion(logprobs=2, echo=True), ()),
    "a text that runs on": (_completion("Hello", ignore_eos=True, max_tokens=40), ()),
}
_RESPONSE_CASES: dict[str, tuple[Body, tuple[Need, ...]]] = {
    "a response": (_response("Hello"), ()),
    "a response in several scripts": (_response(own.SCRIPTS_PROMPT), ()),
    "a response that is cut": (_response(_COUNT, max_output_tokens=CUT_TOKENS), ()),
    "a response of JSON": (
        _response(_JSON_QUESTION, text={"format": {**_FORMAT, "name": "capital"}}),
        (),
    ),
    "a response with a call": (_response(doc.WEATHER_PROMPT, tools=flat_tools(_WEATHER)), ()),
    "a response with two calls": (_response(_SUMS, tools=flat_tools(_CALCULATOR)), ()),
    "a response with a call that is cut": (
        _response(
            doc.WEATHER_PROMPT,
            tools=flat_tools(_WEATHER),
            tool_choice="required",
            max_output_tokens=25,
        ),
        (),
    ),
    "a response with a custom call": (
        _response("Hello", tools=[_CUSTOM], tool_choice="required", max_output_tokens=60),
        (),
    ),
    "a response to an image": (_response([input_picture(_QUESTION, "blue")]), (vision,)),
}
_MESSAGE_CASES: dict[str, tuple[Body, tuple[Need, ...]]] = {
    "a message": (_message("Hello"), ()),
    "a message in several scripts": (_message(own.SCRIPTS_PROMPT), ()),
    "a message that is cut": (_message(_COUNT, max_tokens=CUT_TOKENS), ()),
    "a message up to a stop sequence": (_message(_COUNT, stop_sequences=[", 5"]), ()),
    "a message of JSON": (_message(_JSON_QUESTION, output_config={"format": _FORMAT}), ()),
    "a message with a call": (_message(doc.WEATHER_PROMPT, tools=anthropic_tools(_WEATHER)), ()),
    "a message with two calls": (_message(_SUMS, tools=anthropic_tools(_CALCULATOR)), ()),
    "a message to an image": (
        {**_message(""), "messages": [message_picture(_QUESTION, "blue")]},
        (vision,),
    ),
}


def _kinds(view: View) -> View:
    """What of an answer stays the same where a real model differs in a token."""
    items = view.get("items") or view.get("blocks") or view.get("choices") or ()
    return {"kinds": [item.get("type") for item in items]}


def _equality(api: _Api, case: str, body: Body, needs: tuple[Need, ...]) -> Check:
    async def run(server: Server) -> None:
        whole = api.seen(ok(await server.post(api.path, body)))
        async with server.events(api.path, {**body, **api.stream}) as (stream, _):
            joined = api.joined([event async for event in stream])
        views = (whole, joined) if server.model.tiny else (_kinds(whole), _kinds(joined))
        expect(views[0] == views[1], f"streamed {views[1]}, unstreamed {views[0]}")

    return Check(
        theme.name,
        f"the same streamed: {case}",
        f"Pieces joined equal the unstreamed answer of `{api.path}`.",
        run,
        needs,
    )


for _api, _cases in (
    (_COMPLETIONS, _COMPLETION_CASES),
    (_RESPONSES, _RESPONSE_CASES),
    (_MESSAGES, _MESSAGE_CASES),
):
    theme.checks += [_equality(_api, name, *case) for name, case in _cases.items()]

"""Every theme's checks pass where a server is right and fail where it is wrong."""

import json
from typing import Any

import httpx
import pytest

from serving import model_cards as doc
from serving.conformance.check import Check
from serving.conformance.model import FAMILIES
from serving.conformance.runner import run_one
from serving.conformance.streaming import theme as streaming
from serving.conformance.suite import CHECKS
from serving.tiny import answers as own
from tests.conformance.stand_in import (
    CONTEXT_TOKENS,
    Handler,
    always,
    call,
    check,
    chunk,
    chunks,
    completion,
    error,
    result,
    server,
    streamed,
)

TEXT = completion("Hello.")
WEATHER = call("get_current_weather", doc.WEATHER_ARGUMENTS)
FIRST, SECOND = (
    call("my_calculator", a, f"a1B2c3D4{i}") for i, a in enumerate(doc.EQUATIONS_ARGUMENTS)
)
THOUGHTS = own.thinking(*own.MAGISTRAL_ANSWERS[doc.SHIRTS_QUERY])
THOUGHT, ANSWER = own.MAGISTRAL_ANSWERS[doc.SHIRTS_QUERY]
LOOP = completion(
    "hello " * 60, finish_reason="length", tokens=60, stop_reason="repetition_detected"
)
FRANCE = '{"country": "France", "capital": "Paris"}'


def called(*calls: dict[str, Any], finish_reason: str = "tool_calls", **more: Any) -> Any:
    return completion(calls=calls, finish_reason=finish_reason, **more)


def longer(**choice: Any) -> dict[str, Any]:
    """LOOP with other values in its choice, and tokens as a loop that ran on."""
    whole = completion("hello " * 400, finish_reason="length", tokens=400)
    whole["choices"][0] |= choice
    return whole


def clamps(request: httpx.Request) -> httpx.Response:
    tokens = json.loads(request.content)["max_tokens"]
    headers = {"x-max-tokens-clamped": "32000"} if tokens > CONTEXT_TOKENS else {}
    return httpx.Response(200, json=TEXT, headers=headers)


def anthropic(stop_reason: str) -> dict[str, Any]:
    content = [{"type": "text", "text": "Hello."}]
    usage = {"input_tokens": 4, "output_tokens": 3}
    return {
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop_reason,
        "usage": usage,
    }


def named(*names: str) -> httpx.Response:
    """A stream of named events, whose deltas join to "x"."""
    response = {"output": [{"content": [{"text": "x"}]}]}
    events = [
        {
            "type": name,
            "delta": {"text": "x"} if name == "content_block_delta" else "x",
            "response": response,
        }
        for name in names
    ]
    content = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    return httpx.Response(200, text=content, headers={"content-type": "text/event-stream"})


# name of a check, a server that is right, one that is wrong, and a part of the reason
CASES: list[tuple[str, Any, Any, str]] = [
    # basics
    ("a finished answer says stop", TEXT, completion("x", finish_reason="length"), "length"),
    ("a cut answer says length", completion("x", finish_reason="length", tokens=12), TEXT, "stop"),
    ("a model and messages are enough", TEXT, error("temperature?"), "400: "),
    ("a model and messages are enough", TEXT, completion(None), "no text"),
    ("any key is taken where none is asked", TEXT, error("who?", 401), "401"),
    ("all scripts arrive whole", completion(own.SCRIPTS_ANSWER), completion("????"), "????"),
    (
        "a stop string ends the answer and is left out",
        completion("1, 2, 3, 4"),
        completion("1, 2, 3, 4, 5"),
        ", 5",
    ),
    ("a stop string ends the answer and is left out", completion("1"), completion(""), "no text"),
    # prompts
    ("a raw system prompt is taken", TEXT, error("KeyError: 'name'", 500), "500"),
    ("the clients system prompt is the only one", TEXT, completion(THOUGHTS), "<think>"),
    ("an empty assistant turn is taken", TEXT, error("Invalid assistant message"), "Invalid"),
    # tools
    ("a tool is called when one fits", called(WEATHER), completion("[TOOL_CALLS]"), "[] instead"),
    ("a tool is called when one fits", called(WEATHER), called(FIRST), "my_calculator"),
    (
        "a tool is called when one fits",
        called(WEATHER),
        called({**WEATHER, "id": "call_abc"}),
        "nine letters or digits",
    ),
    (
        "a named call is made and ends as tool calls",
        called(WEATHER),
        called(WEATHER, finish_reason="stop"),
        "finish_reason stop",
    ),
    ("two tools are called at once", called(FIRST, SECOND), called(FIRST), "instead of"),
    (
        "two tools are called at once",
        called(FIRST, SECOND),
        called(FIRST, {**SECOND, "id": FIRST["id"]}),
        "share an id",
    ),
    ("one tool is called where parallel calls are off", called(FIRST), called(FIRST, SECOND), "2"),
    (
        "no call is made where calls are forbidden",
        TEXT,
        completion('[TOOL_CALLS][{"name": "f"}]'),
        "raw call",
    ),
    ("no call is made where calls are forbidden", TEXT, completion(""), "no text"),
    (
        "a required call is made",
        called(call("rewrite", {})),
        called(call("rewrite", '{"text": ')),
        "not JSON",
    ),
    # tool history
    ("short ids are taken", called(WEATHER), error("Tool call id was a1"), "a1"),
    ("ids of openai are taken", called(WEATHER), TEXT, "instead of"),
    ("results are answered with text", completion(doc.EQUATIONS_ANSWER), called(FIRST), "calls ["),
    # vision
    ("an image in the request is seen", completion("It is blue."), completion("Red."), "not blue"),
    (
        "an eleventh image gets a 400 with the limit",
        error("At most 10 images"),
        error("the request of 1024 kB has too many"),
        "limit",
    ),
    ("an eleventh image gets a 400 with the limit", error("At most 10"), TEXT, "200 instead"),
    ("addresses of private networks get a 400", error("no"), error("refused", 500), "500 instead"),
    ("files of the server get a 400", error("no"), error("root:x:0:0"), "quotes the file"),
    ("an unreachable image gets a 4xx", error("no host"), error("no host", 500), "500"),
    # output
    ("json mode gives a json object", completion(FRANCE), completion("Paris"), "not JSON"),
    ("a schema gives json of that schema", completion(FRANCE), completion("{}"), "other fields"),
    (
        "a schema holds where the model would say otherwise",
        completion('{"ok": true}'),
        completion('{"ok": 1}'),
        "not of the schema",
    ),
    # limits
    ("max tokens beyond the context is clamped", TEXT, error("max_tokens=131072"), "400: "),
    ("a clamped max tokens is reported in a header", clamps, TEXT, "no header"),
    (
        "a prompt beyond the context gets a 400 with both numbers",
        error("At most 32768 tokens; these are 40000."),
        error("At most 32768 tokens."),
        "length is not named",
    ),
    ("a loop is stopped and reported", LOOP, longer(), "ran for 400"),
    (
        "a loop is stopped and reported",
        LOOP,
        LOOP | {"choices": longer()["choices"]},
        "stop_reason",
    ),
    ("a streamed loop is stopped and reported", LOOP, longer(), "ran for 400"),
    (
        "the loop guard can be turned off",
        completion("x", finish_reason="length", tokens=250),
        LOOP,
        "after 60",
    ),
    ("an answer that repeats itself and ends is not cut", TEXT, LOOP, "finish_reason length"),
    ("an answer that repeats itself and ends is not cut", TEXT, completion(""), "no text"),
    ("max tokens below one gets a 400", error(), TEXT, "200"),
    # errors
    ("an unknown model gets a 404", error("no 'no-such-model'", 404), error("no", 404), "missing"),
    ("an unknown model gets a 404", error("no 'no-such-model'", 404), TEXT, "200 instead of 404"),
    (
        "a body that is not json gets a 400",
        error(),
        httpx.Response(400, json={"detail": "JSON decode error"}),
        "without OpenAI's",
    ),
    ("missing messages get a 400", error(), error(message=""), "no message"),
    ("an unknown role gets a 400", error(), error("Traceback (most recent"), "stack trace"),
    ("an unknown role gets a 400", error(), httpx.Response(400, text="wrong"), "not JSON"),
    (
        "chat template settings are dropped with a warning",
        always(TEXT, {"x-request-warnings": "chat_template_kwargs: dropped"}),
        TEXT,
        "x-request-warnings",
    ),
    # other APIs
    (
        "tokens of an anthropic message are counted",
        {"input_tokens": 4},
        {"input_tokens": 0},
        "0",
    ),
    (
        "a text completion is given",
        {
            "object": "text_completion",
            "choices": [{"text": " x"}],
            "usage": {"completion_tokens": 4},
        },
        TEXT,
        "chat.completion",
    ),
    (
        "an anthropic message is answered",
        anthropic("end_turn"),
        anthropic("stop"),
        "stop_reason 'stop'",
    ),
    (
        "an anthropic stream has its events",
        named("message_start", "content_block_delta", "message_stop"),
        named("message_start", "content_block_delta"),
        "last ['content_block_delta']",
    ),
    (
        "a streamed response ends as completed",
        named("response.created", "response.output_text.delta", "response.completed"),
        named("response.created", "response.output_text.delta"),
        "last ['response.output_text.delta']",
    ),
    # streaming
    (
        "the first delta has the role and done is last",
        streamed(chunks(TEXT)[:-1]),
        streamed(chunks(TEXT)[1:-1]),
        "first delta",
    ),
    (
        "text comes while it is made",
        completion(own.counting(100)),
        streamed([chunk(role="assistant", content=own.counting(100)), chunk(finish_reason="stop")]),
        "one piece",
    ),
    (
        "a call comes as id and name and then arguments",
        called(WEATHER),
        streamed(chunks(called(WEATHER))[:-3] + chunks(called(WEATHER))[-2:-1]),
        "not JSON",
    ),
    ("usage comes in a last event when asked", TEXT, streamed(chunks(TEXT)[:-1]), "no usage"),
    ("usage comes in a last event when asked", TEXT, httpx.Response(200, json=TEXT), "of type"),
]  # fmt: skip

REASONING: list[tuple[str, Any, Any, str]] = [
    ("thoughts stand in content", completion(THOUGHTS), completion(ANSWER), "no thoughts first"),
    (
        "thoughts stand in content",
        completion(THOUGHTS),
        completion(ANSWER, reasoning=THOUGHT),
        "no thoughts first",
    ),
    (
        "thoughts stand in reasoning when asked",
        completion(ANSWER, reasoning=THOUGHT),
        completion(THOUGHTS),
        "`reasoning` is empty",
    ),
    (
        "thoughts stand in reasoning when asked",
        completion(ANSWER, reasoning=THOUGHT),
        completion(f"</think>{ANSWER}", reasoning=THOUGHT),
        "tag is left",
    ),
    (
        "separate thoughts may be cut",
        completion("", reasoning="All", finish_reason="length"),
        completion("All", reasoning="shirts", finish_reason="length"),
        "'All'",
    ),
    (
        "the cards four queries are answered",
        completion(THOUGHTS),
        completion("<think>\nand on and on", finish_reason="length"),
        "no answer after",
    ),
]
TEXT_ONLY: list[tuple[str, Any, Any, str]] = [
    (
        "an image to a text model gets a clear 400",
        error("it takes no images"),
        error("KeyError: 'vision'"),
        "no word of images",
    ),
]


def answering(answer: Any) -> Handler:
    return answer if callable(answer) else always(answer)


@pytest.mark.parametrize(
    ("family", "name", "right", "wrong", "reason"),
    [
        (family, *case)
        for family, cases in {"3.2": CASES, "magistral": REASONING, "2501": TEXT_ONLY}.items()
        for case in cases
    ],
)
async def test_right_passes_and_wrong_fails(
    family: str, name: str, right: Any, wrong: Any, reason: str
) -> None:
    assert (await result(name, answering(right), family)).reason == ""
    failed = await result(name, answering(wrong), family)
    assert failed.status == "fail" and reason in failed.reason


EMPTY = httpx.Response(200, json={})
FAILING = error("it failed", 500)


@pytest.mark.parametrize("wrong", [EMPTY, FAILING], ids=["empty", "failing"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_no_check_passes_on_a_server_that_answers_nothing(
    check: Check, wrong: httpx.Response
) -> None:
    for family in FAMILIES:
        outcome = await run_one(server(always(wrong), family), check)
        if outcome.status != "skip":  # the same check gains nothing from another family
            break
    assert outcome.status != "pass"


def streams_another(whole: Any, other: Any) -> Handler:
    """A server whose streams differ from its unstreamed answers."""

    def handle(request: httpx.Request) -> httpx.Response:
        stream = json.loads(request.content).get("stream")
        return always(other if stream else whole)(request)

    return handle


EQUALITY = [check for check in streaming.checks if check.name.startswith("the same streamed")]


@pytest.mark.parametrize("equality", EQUALITY, ids=lambda check: check.name)
async def test_a_stream_that_differs_fails(equality: Check) -> None:
    family = "magistral" if "thoughts" in equality.name else "3.2"
    whole = completion("Hello.", [WEATHER], "tool_calls", reasoning="Hm.")
    for other, field in (
        (completion("Hello!", [WEATHER], "tool_calls", reasoning="Hm."), "content"),
        (completion("Hello.", [FIRST], "tool_calls", reasoning="Hm."), "calls"),
        (completion("Hello.", [WEATHER], "stop", reasoning="Hm."), "finish_reason"),
        (completion("Hello.", [WEATHER], "tool_calls", reasoning="Hm!"), "reasoning"),
        (completion("Hello.", [WEATHER], "tool_calls", 9, reasoning="Hm."), "completion_tokens"),
    ):
        failed = await run_one(server(streams_another(whole, other), family), equality)
        assert failed.status == "fail" and failed.reason.startswith(f"{field}: ")
    assert (await run_one(server(always(whole), family), equality)).status == "pass"


async def test_a_real_models_stream_may_differ_in_words_but_not_in_kind() -> None:
    equality = check("the same streamed: a greeting")
    other = streams_another(completion("Hi."), completion("Hello!"))
    assert (await run_one(server(other, tiny=False), equality)).status == "pass"
    kind = streams_another(completion("Hi."), completion(calls=[WEATHER]))
    assert (await run_one(server(kind, tiny=False), equality)).status == "fail"


async def test_a_case_is_asked_once_however_many_checks_use_it() -> None:
    asked: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        return always(TEXT)(request)

    one = server(handle)
    for _ in range(3):
        assert (await run_one(one, check("a finished answer says stop"))).status == "pass"
    assert len(asked) == 1


async def test_keys_are_checked_where_there_is_one() -> None:
    name = "a wrong key gets a 401 and health needs none"
    assert (await result(name, always(TEXT))).reason == "no API key was given"
    with_key = await run_one(
        server(always(TEXT), api_key="secret"), check("any key is taken where none is asked")
    )
    assert (with_key.status, with_key.reason) == ("skip", "an API key was given")

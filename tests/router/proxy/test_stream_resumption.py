"""A broken stream continues on another replica, and the client sees one unbroken answer."""

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import httpx
import pytest

from serving.engine_protocol import RESUMPTION
from serving.router.proxy.stream_resumption import (
    CHAT,
    COMPLETIONS,
    StreamResumption,
)
from serving.router.replicas.model import Model
from tests.router.test_app import error_of
from tests.support.engines import Engine, IsUnavailable, ResetsAfterHead, Steered
from tests.support.live_router import MODEL, RULES, LiveRouter, StartRouter
from tests.support.stand_in_engine import STREAM_HEAD
from tests.support.storyteller import (
    FAULTS,
    PROMPT_TOKENS,
    STORY,
    Fault,
    Storyteller,
    breaking,
    breaks_within_an_event,
    fails_on_the_request,
    resets,
    says_that_it_died,
)
from tests.support.waiting import eventually

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Tell a story."}]},
    COMPLETIONS: {"prompt": "Tell a story.", "max_tokens": 100},
}
BEGUN = {"role": "assistant", "content": STORY[0]}
each_fault = pytest.mark.parametrize("fault", FAULTS)
each_endpoint = pytest.mark.parametrize("path", BODIES)
HANG = {"check_period_s": 0.05, "check_timeout_s": 0.5}


async def story(router: LiveRouter, path: str, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "stream": True, **BODIES[path], **fields}
    return await router.http.post(path, json=body, headers={"x-request-id": "id"})


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """Returns the events of a stream that ended properly."""
    *data, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in data]


def text_of(events: list[dict[str, Any]]) -> str:
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices)


def seen(answer: httpx.Response) -> list[Any]:
    """Returns the events without the time, which differs between answers."""
    return [{k: v for k, v in event.items() if k != "created"} for event in events(answer)]


@each_endpoint
@each_fault
async def test_a_stream_goes_on_where_it_stopped(
    start_router: StartRouter, path: str, fault: Fault
) -> None:
    router = await start_router(breaking(6, fault), Storyteller, **HANG)
    answer = await story(router, path, stream_options={"include_usage": True})
    undisturbed = await story(router, path, stream_options={"include_usage": True})
    assert answer.headers["x-replica"] == "replica-0"
    assert undisturbed.headers["x-replica"] == "replica-1"
    assert seen(answer) == seen(undisturbed)
    assert ":" not in {event[:1] for event in answer.text.split("\n\n")}
    assert len({event["created"] for event in events(answer)}) == 1
    assert text_of(events(answer)) == "".join(STORY)
    assert events(answer)[-1]["usage"] == {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": len(STORY),
        "total_tokens": PROMPT_TOKENS + len(STORY),
        "prompt_tokens_details": {"cached_tokens": PROMPT_TOKENS},
    }
    assert await router.loads() == [(0, 0), (0, 0)]


@each_endpoint
@pytest.mark.parametrize("stop", [None, "never", "a very long one that never comes"])
async def test_it_may_stop_after_any_token(
    start_router: StartRouter, path: str, stop: str | None
) -> None:
    router = await start_router(breaking(0, resets), Storyteller, backoff_s=0)
    breaks, _ = router.engines
    assert issubclass(breaks, Storyteller)
    fields = {} if stop is None else {"stop": stop}
    for after in range(len(STORY)):
        breaks.breaks_after = after
        answer = await story(router, path, **fields)
        assert breaks.requests == after + 1
        assert text_of(events(answer)) == "".join(STORY)
        await eventually(lambda: not router.directory.models[MODEL].replicas[0].health.ejected)


@each_endpoint
@pytest.mark.parametrize("limit", [7, 10, 20])
async def test_the_limit_is_that_of_the_whole_answer(
    start_router: StartRouter, path: str, limit: int
) -> None:
    router = await start_router(breaking(6, resets), Storyteller)
    answer = events(await story(router, path, max_tokens=limit))
    assert text_of(answer) == "".join(STORY[:limit])
    assert answer[-1]["choices"][0]["finish_reason"] == "length"


async def test_a_completion_without_a_limit_has_vllms(start_router: StartRouter) -> None:
    router = await start_router(breaking(6, resets), Storyteller)
    body = {"model": MODEL, "stream": True, "prompt": [1, 2, 3]}
    answer = await router.http.post(COMPLETIONS, json=body)
    assert text_of(events(answer)) == "".join(STORY[:16])


@each_endpoint
async def test_it_may_break_more_than_once(start_router: StartRouter, path: str) -> None:
    broken = [breaking(5, fault) for fault in (resets, breaks_within_an_event, says_that_it_died)]
    router = await start_router(*broken, Storyteller)
    assert text_of(events(await story(router, path))) == "".join(STORY)
    assert [engine.requests for engine in router.engines] == [1, 1, 1, 1]


@each_endpoint
async def test_without_another_replica_it_waits_for_a_new_one(
    start_router: StartRouter, path: str
) -> None:
    router = await start_router(breaking(6, resets), Storyteller, backoff_s=0.05)
    first, second = router.infos
    router.directory.update(MODEL, [first])
    answer = asyncio.create_task(story(router, path))
    served = router.directory.models[MODEL]
    await eventually(lambda: router.engines[0].requests == 1)
    router.directory.update(MODEL, [])
    await eventually(lambda: served.dispatcher.waiting == 1)
    router.directory.update(MODEL, [second])
    assert text_of(events(await answer)) == "".join(STORY)
    assert [engine.requests for engine in router.engines] == [1, 1]


@each_endpoint
async def test_replicas_that_cannot_go_on_are_passed_over(
    start_router: StartRouter, path: str
) -> None:
    router = await start_router(
        breaking(5, resets), IsUnavailable, IsUnavailable, ResetsAfterHead, Storyteller
    )
    assert text_of(events(await story(router, path))) == "".join(STORY)


async def test_a_long_answer_goes_on_too(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was delivered is read in between, and not kept as bytes."""
    monkeypatch.setattr("serving.router.proxy.stream_resumption._FOLD_BYTES", 500)
    router = await start_router(breaking(20, resets), Storyteller)
    assert text_of(events(await story(router, CHAT, stop="never"))) == "".join(STORY)


@pytest.mark.parametrize("breaks_after", range(1, 8))
async def test_separated_reasoning_goes_on_too(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch, breaks_after: int
) -> None:
    """The next engine continues the answer as the model wrote it."""
    thoughts = ["<think>\n", "Well", ",", " so", ".", "\n</think>\n", "Yes", "."]
    monkeypatch.setattr("tests.support.storyteller.STORY", thoughts)
    monkeypatch.setattr("tests.support.storyteller._IDS", list(range(1000, 1008)))
    model = Model(MODEL, rules=replace(RULES, thinks=True))
    router = await start_router(breaking(breaks_after, resets), Storyteller, models=[model])
    answer = events(await story(router, CHAT, reasoning_format="separate"))
    deltas = [event["choices"][0]["delta"] for event in answer]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == "Well, so."
    assert text_of(answer) == "Yes."


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"x-not-resumable: grammars cannot be continued\r\n", "grammars cannot be continued"),
        (b"", "its engine does not tell its tokens"),
    ],
)
async def test_what_an_engine_cannot_have_continued_says_so_and_cannot_look_complete(
    start_router: StartRouter, header: bytes, says: str
) -> None:
    class Untold(breaking(6, says_that_it_died)):  # type: ignore[misc]
        def stream_head(self) -> bytes:
            self.continuation.wanted = False
            return bytes(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n"))

    router = await start_router(Untold, Storyteller)
    got = await broken_text(router)
    *_, last, end = got.split("\n\n")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], error["code"], end) == ("server_error", "replica_failed", "")
    assert says in error["message"]
    assert "incomplete" in error["message"]
    assert "[DONE]" not in got
    assert router.engines[1].requests == 0


async def broken_text(router: LiveRouter, path: str = CHAT, **fields: Any) -> str:
    """Returns what the client got of a stream that ended in an error and cannot look complete."""
    body = {"model": MODEL, "stream": True, **BODIES[path], **fields}
    got = b""
    async with router.http.stream("POST", path, json=body) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            async for part in answer.aiter_raw():
                got += part
    return got.decode()


async def test_engines_that_refuse_to_go_on_are_passed_over(start_router: StartRouter) -> None:
    """For example because they have another model's tokens by now."""

    class Refuses(Storyteller):
        async def _stream(self, request: dict[str, Any], meter: Any) -> None:
            refused = b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\n{}"
            self.transport.write(refused)

    router = await start_router(breaking(7, resets), Refuses, Refuses)
    got = await broken_text(router)
    assert "no other replica could continue it" in got
    assert "There" not in got
    assert [engine.requests for engine in router.engines] == [1, 1, 1]
    _, *others = router.directory.models[MODEL].replicas
    assert not any(other.health.ejected for other in others)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", CHAT])
async def test_the_next_engine_gets_the_request_and_the_tokens(
    start_router: StartRouter, path: str
) -> None:
    """Whatever the API: the router reads of events no more than the text of a token."""
    deltas = {
        "/v1/messages": {"delta": {"type": "text_delta", "text": "b"}},
        "/v1/responses": {"type": "response.output_text.delta", "delta": "b"},
        CHAT: {
            "choices": [{"index": 1, "delta": {"tool_calls": [{"function": {"arguments": "b"}}]}}]
        },
    }
    begun = (
        b': tokens 2,[0,[1,2]],[1,[3],"stop",null]\nevent: a\ndata: {}\n\nevent: b\ndata: {}\n\n'
    )
    plain = b"event: c\ndata: " + json.dumps(deltas[path]).encode() + b"\n\n"
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nx-resumption: 1-2-1\r\n\r\n")
    router = await start_router(Steered, Steered)
    body = json.dumps({"model": MODEL, "stream": True, "n": 2, "input": "é"}, indent=1).encode()
    headers = {"x-resumption": "the client's", "x-cached-tokens": "3"}
    asked = asyncio.create_task(router.http.post(path, content=body, headers=headers))
    first = await router.engines[0].asked()  # type: ignore[attr-defined]
    assert first.latest.header(b"x-resumption") == b"begin"
    first.transport.write(head)
    for piece in (begun, plain, begun.partition(b"\n\n")[0] + b"\n\n"):
        first.send(piece)
    first.send(b"event: half")
    first.transport.close()
    second = await router.engines[1].asked()  # type: ignore[attr-defined]
    assert second.latest.header(b"x-resumption") == b"1-2-1 %d" % len(body)
    request = second.received[-1]
    assert request.body.startswith(body)
    choice = 1 if path == CHAT else 0
    told = [[0, [1, 2]], [1, [3], "stop", None]]
    assert json.loads(request.body[len(body) :]) == {
        "events": 4,
        "cached_tokens": 0,
        "steps": [*told, [choice, "b", None, None], *told],
    }
    second.transport.write(head)
    second.send(b": tokens 1\nevent: d\ndata: {}\n\n")
    second.send(b": tokens 1,null\nevent: e\ndata: {}\n\n")
    second.transport.close()
    answer = await asked
    assert [event.partition("\n")[0] for event in answer.text.split("\n\n")] == [
        *("event: a", "event: b", "event: c", "event: a", "event: d", "event: e", "")
    ]
    assert "x-resumption" not in answer.headers


@pytest.mark.parametrize("usage_asked", [False, True])
async def test_an_answer_that_has_ended_lacks_no_more_than_its_end(
    start_router: StartRouter, usage_asked: bool
) -> None:
    router = await start_router(breaking(len(STORY), resets), Storyteller)
    answer = await story(router, CHAT, stream_options={"include_usage": usage_asked})
    assert text_of(events(answer)) == "".join(STORY)
    assert [("usage" in event) for event in events(answer)].count(True) == usage_asked


def says_at_once(fault: Fault) -> type[Engine]:
    class Failing(Engine):
        async def stream(self, request: dict[str, Any]) -> None:
            self.transport.write(STREAM_HEAD)
            fault(self)  # type: ignore[arg-type]

        write_event = Storyteller.write_event
        _write = Storyteller._write

    return Failing


async def test_an_engines_error_before_the_first_byte_is_no_answer(
    start_router: StartRouter,
) -> None:
    router = await start_router(says_at_once(says_that_it_died), Storyteller)
    for fields in ({}, {"n": 2}):
        answer = await story(router, CHAT, **fields)
        assert text_of(events(answer)) == "".join(STORY)
        assert answer.headers["x-replica"] == "replica-1"


async def test_an_error_on_a_request_before_the_first_byte_is_a_whole_answer(
    start_router: StartRouter,
) -> None:
    router = await start_router(says_at_once(fails_on_the_request), Storyteller)
    assert error_of(await story(router, CHAT), 500)["code"] == "request_failed"
    assert router.engines[1].requests == 0


@each_endpoint
async def test_what_a_request_does_to_engines_lowers_no_replicas_health(
    start_router: StartRouter, path: str
) -> None:
    """A grammar, for example, may fail during an answer: the stream ends with an error that blames
    the request, and no replica is ejected."""
    router = await start_router(*[breaking(3, fails_on_the_request)] * 2)
    for _ in range(10):
        answer = await broken_text(router, path)
        error = json.loads(answer.split("\n\n")[-2].removeprefix("data: "))["error"]
        assert error["code"] == "request_failed"
        assert "[DONE]" not in answer
        assert not any(
            replica.health.ejected for replica in router.directory.models[MODEL].replicas
        )
    assert sum(engine.requests for engine in router.engines) == 10
    await eventually(lambda: len(router.lines) == 10)
    assert {json.loads(line)["outcome"] for line in router.lines} == {"invalid"}


async def test_the_requests_own_error_within_a_stream_is_the_clients(
    start_router: StartRouter,
) -> None:
    def refuses(engine: Storyteller) -> None:
        engine.write_event({"error": {"message": "too long", "code": 400}})
        engine.transport.write(b"0\r\n\r\n")

    router = await start_router(breaking(3, refuses), Storyteller)
    assert "too long" in (await story(router, CHAT)).text
    assert router.engines[1].requests == 0


@pytest.mark.parametrize("piece_bytes", [1, 7, 4096, 1 << 20, 1 << 22])
@pytest.mark.parametrize(
    "stream", [random.Random(1).randbytes(3 << 20), b"data: {}\n\n" * 1000, b"x" * (3 << 20)]
)
def test_whatever_comes_is_passed_on(stream: bytes, piece_bytes: int) -> None:
    stream = stream[: 20_000 * piece_bytes]
    resumption = StreamResumption(CHAT, b"{}", unresumable_reason="")
    resumption.answered([(RESUMPTION, b"mark")])
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]
    assert b"".join(map(resumption.feed, pieces)) + resumption.end() == stream

"""The response headers and the request log line about a request."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from serving.router.http import errors
from tests.support.engines import Engine, ResetsBeforeHead, Steered
from tests.support.live_router import (
    ALIAS,
    CHAT,
    IMPATIENT,
    MAX_BODY_BYTES,
    MODEL,
    LiveRouter,
    StartRouter,
)
from tests.support.stand_in_engine import CHUNKED, OK_HEAD, STREAM_HEAD
from tests.support.storyteller import STORY, Storyteller, breaking, resets
from tests.support.waiting import eventually

PROMPT = "a secret that only the engine may see"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}]}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
LONG: dict[str, Any] = {"messages": [{"role": "user", "content": "word " * 1000}]}
streamed_or_not = pytest.mark.parametrize("stream", [False, True])


async def record(router: LiveRouter) -> dict[str, Any]:
    """Returns the only line of the request log."""
    await eventually(lambda: router.lines)
    (line,) = router.lines
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    fields: dict[str, Any] = json.loads(line)
    return fields


def explained(response: httpx.Response) -> dict[str, str]:
    names = ("replica", "queue-time-ms", "expected-cached-tokens", "cached-tokens", "retries")
    return {n: v for n in names if (v := response.headers.get(f"x-{n}")) is not None}


@streamed_or_not
async def test_an_answered_request_is_a_line(router: LiveRouter, stream: bool) -> None:
    before = datetime.now(UTC)
    headers: dict[str, str | bytes] = {"x-request-id": "id-1", "authorization": "Bearer my-key"}
    answer = await router.chat(
        headers, **ASK, max_tokens=5, stream=stream, **(USAGE if stream else {})
    )
    fields = await record(router)
    assert before <= datetime.fromisoformat(fields.pop("time")) <= datetime.now(UTC)
    assert 0 <= fields.pop("queue_ms") <= fields["duration_ms"]
    assert fields.pop("prompt_tokens") == fields.pop("input_tokens") > 0
    ttft_ms, duration_ms = fields.pop("ttft_ms"), fields.pop("duration_ms")
    assert 0 < ttft_ms <= duration_ms if stream else ttft_ms is None
    assert fields == {
        "request_id": "id-1",
        "path": CHAT,
        "outcome": "answered",
        "status": 200,
        "error": None,
        "limit": None,
        "tenant": "default",
        "key_id": None,
        "adapter": None,
        "adapter_version": None,
        "canary": None,
        "batch_id": None,
        "model": MODEL,
        "stream": stream,
        "replica": "replica-0",
        "expected_cached_tokens": 0,
        "cached_tokens": None,
        "output_tokens": 5 if stream else 16,
        "retries": 0,
        "continued": 0,
        "handed_over": 0,
        "rewrites": [],
        "trace_id": None,
    }
    assert explained(answer) == {
        "replica": "replica-0",
        "queue-time-ms": answer.headers["x-queue-time-ms"],
        "expected-cached-tokens": "0",
        "retries": "0",
    }


async def test_no_line_has_anything_of_a_prompt_or_a_key(router: LiveRouter) -> None:
    for path in (CHAT, f"{CHAT}?key=my-key"):
        for fields in (ASK, ASK | {"model": PROMPT}, ASK | {"max_tokens": PROMPT}):
            key = {"authorization": "Bearer my-key"}
            await router.http.post(path, json={"model": ALIAS, **fields}, headers=key)
    await eventually(lambda: len(router.lines) == 6)
    assert b"secret" not in b"".join(router.lines)
    assert b"my-key" not in b"".join(router.lines)


@streamed_or_not
async def test_cached_tokens_are_reported_as_expected_and_as_found(
    start_router: StartRouter, stream: bool
) -> None:
    router = await start_router(Steered)
    ask = LONG | {"stream": stream}
    for said in (b"0", b"1234"):
        router.lines.clear()
        answer, connection = await router.begin(**ask)
        head = OK_HEAD % (b"text/event-stream" if stream else b"application/json")
        head += b"x-prompt-tokens: 2000\r\nx-cached-tokens: %b\r\n" % said
        body = CHUNKED + b"2\r\n\n\n\r\n0\r\n\r\n" if stream else b"content-length: 0\r\n\r\n"
        connection.transport.write(head + body)
        got, fields = explained(await answer), await record(router)
        assert got["cached-tokens"] == said.decode() == str(fields["cached_tokens"])
        assert got["expected-cached-tokens"] == str(fields["expected_cached_tokens"])
        assert fields["input_tokens"] == 2000
    assert fields["expected_cached_tokens"] > 500


@streamed_or_not
async def test_after_a_move_all_is_said_of_the_replica_that_answers(
    start_router: StartRouter, stream: bool
) -> None:
    router = await start_router(Engine, ResetsBeforeHead, placement="round_robin")
    ask = LONG | {"stream": stream}
    expected = []
    for _ in range(2):
        answer = await router.chat(**ask)
        expected.append(explained(answer)["expected-cached-tokens"])
    assert (answer.headers["x-replica"], answer.headers["x-retries"]) == ("replica-0", "1")
    assert int(expected[1]) > int(expected[0]) == 0
    await eventually(lambda: len(router.lines) == 2)
    fields = json.loads(router.lines[1])
    assert (fields["replica"], fields["retries"]) == ("replica-0", 1)
    assert str(fields["expected_cached_tokens"]) == expected[1]


async def test_the_queue_time_is_the_sum_of_all_waits(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    answer, failing = await router.begin()
    router.directory.update(MODEL, [])
    failing.reset()
    await eventually(lambda: router.directory.models[MODEL].dispatcher.waiting == 1)
    await asyncio.sleep(0.1)
    router.directory.update(MODEL, router.infos)
    (await router.asked()).proceed()
    got = explained(await answer)
    assert int(got["queue-time-ms"]) >= 95
    assert got["retries"] == "1"
    assert int(got["queue-time-ms"]) == int((await record(router))["queue_ms"])


async def test_headers_of_this_service_behind_this_one_are_dropped(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    answer = asyncio.create_task(router.chat())
    own = b"x-replica: of-another\r\nx-retries: 9\r\nx-queue-time-ms: 9\r\n"
    own += b"x-expected-cached-tokens: 9\r\n"
    (await router.asked()).transport.write(
        OK_HEAD % b"application/json" + own + b"content-length: 0\r\n\r\n"
    )
    names = ("x-replica", "x-retries", "x-queue-time-ms", "x-expected-cached-tokens")
    got = [(await answer).headers.get_list(name) for name in names]
    assert [len(values) for values in got] == [1] * 4
    assert got[:2] == [["replica-0"], ["0"]]


@pytest.mark.parametrize(
    ("content", "status", "code", "model"),
    [
        (b'{"model":', 400, "invalid_json", None),
        (b"x" * (MAX_BODY_BYTES + 1), 413, "request_too_large", None),
        (b'{"model": "who"}', 404, "model_not_found", None),
        (b'{"model": "small", "max_tokens": "many"}', 400, "invalid_value", None),
    ],
)
async def test_what_the_router_can_make_nothing_of_has_a_line(
    router: LiveRouter, content: bytes, status: int, code: str | None, model: str | None
) -> None:
    answer = await router.http.post(CHAT, content=content)
    fields = await record(router)
    assert (answer.status_code, fields["status"], fields["outcome"]) == (status, status, "invalid")
    assert fields["error"] == answer.json()["error"]["code"]
    assert code is None or fields["error"] == code
    assert fields["model"] == model
    assert (fields["replica"], fields["queue_ms"], fields["output_tokens"]) == (None, None, 0)
    assert fields["duration_ms"] > 0
    assert explained(answer) == {}


async def test_an_engines_own_error_is_its_answer(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    answer = asyncio.create_task(router.chat(**ASK))
    (await router.asked()).transport.write(
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nwrong"
    )
    assert (await answer).status_code == 400
    fields = await record(router)
    assert (fields["outcome"], fields["status"], fields["error"]) == ("answered", 400, None)


async def test_a_refused_request_says_why_and_how_long_it_waited(
    start_router: StartRouter,
) -> None:
    router = await start_router(**IMPATIENT)
    answer = await router.chat(**ASK)
    fields = await record(router)
    assert (fields["outcome"], fields["error"]) == ("refused", "no_replica")
    assert answer.headers["x-refused"] == "no_replica"
    assert fields["status"] == answer.status_code == 503
    assert fields["queue_ms"] > 0
    assert explained(answer) == {"queue-time-ms": str(int(fields["queue_ms"])), "retries": "0"}


async def test_when_the_replicas_failed_the_line_has_the_last(start_router: StartRouter) -> None:
    router = await start_router(ResetsBeforeHead, backoff_s=0.01)
    answer = await router.chat(**ASK)
    fields = await record(router)
    assert (fields["outcome"], fields["error"]) == ("replicas_failed", "replicas_failed")
    assert (fields["status"], fields["replica"]) == (503, "replica-0")
    assert explained(answer) == {
        "replica": "replica-0",
        "queue-time-ms": str(int(fields["queue_ms"])),
        "expected-cached-tokens": str(fields["expected_cached_tokens"]),
        "retries": str(fields["retries"]),
    }
    assert fields["retries"] == router.engines[0].requests - 1 > 0


async def test_a_client_that_leaves_is_a_line(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    _, response = await router.begun_stream(b"data: {}\n\n", **ASK)
    await response.aclose()
    fields = await record(router)
    assert (fields["outcome"], fields["status"]) == ("client_gone", 200)


async def test_a_client_that_leaves_the_queue_has_a_line(start_router: StartRouter) -> None:
    router = await start_router(Engine)
    router.directory.update(MODEL, [])
    waiting = asyncio.create_task(router.chat(**ASK))
    dispatcher = router.directory.models[MODEL].dispatcher
    await eventually(lambda: dispatcher.waiting == 1)
    waiting.cancel()
    fields = await record(router)
    assert (fields["outcome"], fields["status"], fields["replica"]) == ("client_gone", None, None)
    assert fields["queue_ms"] > 0


async def test_a_continued_stream_says_so(start_router: StartRouter) -> None:
    router = await start_router(breaking(3, resets), breaking(4, resets), Storyteller)
    await router.chat(**ASK, stream=True, **USAGE)
    fields = await record(router)
    assert (fields["outcome"], fields["status"]) == ("answered", 200)
    assert (fields["continued"], fields["retries"]) == (2, 2)
    assert fields["replica"] == "replica-0"
    assert fields["output_tokens"] == len(STORY)


async def test_a_stream_that_cannot_be_continued_is_broken(start_router: StartRouter) -> None:
    router = await start_router(breaking(3, resets), Storyteller)
    with pytest.raises(httpx.RemoteProtocolError):
        await router.chat(**ASK, stream=True, n=2)
    fields = await record(router)
    assert (fields["outcome"], fields["status"]) == ("broken", 200)
    assert (fields["continued"], fields["retries"]) == (0, 0)


async def test_the_routers_own_failure_is_a_line(
    router: LiveRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("serving.router.proxy.exchange.work_of", fail)
    answer = await router.chat(**ASK)
    fields = await record(router)
    assert (fields["outcome"], fields["error"]) == ("internal_error", "internal_error")
    assert fields["status"] == answer.status_code == errors.internal_error().status


async def test_a_stream_without_usage_is_counted_by_its_events(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    answer, connection = await router.begin(**ASK, stream=True)
    connection.transport.write(STREAM_HEAD)
    for _ in range(20):
        connection.send(b"data: {}\n\n")
    connection.end_stream()
    await answer
    assert (await record(router))["output_tokens"] == 20

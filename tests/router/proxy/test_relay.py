"""What the relay passes on, and where. Faults are in test_relay_faults.py."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from serving.router.http.asgi import client_request_id
from serving.router.replicas.model import Model
from tests.router.test_app import error_of
from tests.support.engines import Engine, Steered
from tests.support.live_router import (
    ALIAS,
    CHAT,
    IMPATIENT,
    MAX_BODY_BYTES,
    MESSAGES,
    MODEL,
    TOKEN,
    LiveRouter,
    StartRouter,
)
from tests.support.stand_in_engine import DONE, OK_HEAD, WORD, stream_events
from tests.support.waiting import eventually

EVENTS = [b'data: {"n":%d}\n\n' % n for n in range(3)]


def whole_stream(request_id: str, model: str, tokens: int) -> bytes:
    """Returns the body of a stand-in's stream."""
    first, token, last = stream_events(request_id, model)
    return first + token * (tokens - 1) + last + DONE


async def test_the_request_body_reaches_the_engine_byte_for_byte(router: LiveRouter) -> None:
    body = b' {"model" : "small",\n "x":[1.50, "\\u00e9"] , "max_tokens":3 } '
    assert (await router.http.post(CHAT, content=body)).status_code == 200
    assert router.engines[0].received[0].body == body


async def test_a_body_in_chunks_reaches_the_engine_whole(router: LiveRouter) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"model": "small", '
        yield b'"padding": "' + b"x" * 100_000 + b'"}'

    assert (await router.http.post(CHAT, content=pieces())).status_code == 200
    (received,) = router.engines[0].received
    assert received.body == b"".join([piece async for piece in pieces()])
    assert received.header(b"content-length") == b"%d" % len(received.body)
    assert received.header(b"transfer-encoding") is None


async def test_an_unstreamed_answer_comes_back_byte_for_byte(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    answer, connection = await router.begin()
    body = b'{"text": "\xff\x00 as it is"}'
    connection.transport.write(
        b"HTTP/1.1 203 Other\r\ncontent-type: application/json\r\nx-of-engine: yes\r\n"
        b"server: uvicorn\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    for byte in body:
        connection.transport.write(bytes([byte]))
    response = await answer
    assert response.status_code == 203
    assert response.content == body
    assert response.headers["x-of-engine"] == "yes"
    assert response.headers["content-length"] == str(len(body))
    assert response.headers["x-replica"] == "replica-0"
    assert "server" not in response.headers
    assert len(response.headers.get_list("date")) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (422, "invalid_request_error"),
        (500, "server_error"),
        (503, "service_unavailable_error"),
    ],
)
async def test_an_engines_own_error_is_the_clients_answer(
    start_router: StartRouter, status: int, kind: str
) -> None:
    router = await start_router(Steered, Engine)
    answer, connection = await router.begin()
    said = (
        b'{"error": {"message": "too long", "type": "x", "param": "body.n", "code": %d}}' % status
    )
    head = b"HTTP/1.1 %d No\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
    connection.transport.write(head % (status, len(said)) + said)
    response = await answer
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error = {"message": "too long", "type": kind, "param": "n", "code": None}
    assert response.json() == {"error": error}
    assert router.engines[1].requests == 0


async def test_an_answer_without_a_body_ends(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    answer, connection = await router.begin()
    connection.transport.write(OK_HEAD % b"application/json" + b"content-length: 0\r\n\r\n")
    assert (await answer).content == b""


async def test_each_chunk_of_a_stream_arrives_before_the_next_is_sent(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    connection, response = await router.begun_stream(EVENTS[0])
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    chunks = response.aiter_raw()
    assert await anext(chunks) == EVENTS[0]
    for part in (EVENTS[1], b"data: half an ", b"event\n\n", EVENTS[2]):
        connection.send(part)
        assert await anext(chunks) == part
    connection.end_stream()
    assert [chunk async for chunk in chunks] == []


async def test_a_stream_of_a_known_length_arrives_whole(start_router: StartRouter) -> None:
    """Servers other than vLLM may declare the length of a stream."""
    router = await start_router(Steered)
    asking, connection = await router.begin(stream=True)
    events = b"".join(EVENTS) + DONE
    head = OK_HEAD % b"text/event-stream" + b"content-length: %d\r\n\r\n" % len(events)
    connection.transport.write(head + EVENTS[0])
    await asyncio.sleep(0)
    connection.transport.write(events[len(EVENTS[0]) :])
    response = await asking
    assert response.content == events
    assert "content-length" not in response.headers


async def test_the_openai_client_reads_a_stream_to_its_end(router: LiveRouter) -> None:
    stream = await router.openai.chat.completions.create(
        model=ALIAS, messages=[{"role": "user", "content": "hi"}], max_tokens=5, stream=True
    )
    texts = [chunk.choices[0].delta.content async for chunk in stream]
    assert texts == ["", *[WORD] * 5]


async def test_a_hundred_streams_at_once_each_get_their_own_bytes(
    start_router: StartRouter,
) -> None:
    router = await start_router(Engine, Engine)

    async def ask(i: int) -> bytes:
        return (await router.chat({"x-request-id": f"r{i}"}, stream=True, max_tokens=i)).content

    answers = await asyncio.gather(*map(ask, range(100)))
    for i, answer in enumerate(answers):
        assert answer == whole_stream(f"r{i}", MODEL, i)
    assert {engine.requests for engine in router.engines} != {0, 100}


async def test_the_query_string_reaches_the_engine_as_it_was(router: LiveRouter) -> None:
    target = f"{CHAT}?a=%2F&b=c+d&b"
    assert (await router.http.post(target, json={"model": MODEL})).status_code == 200
    assert router.engines[0].received[0].target == target.encode()


async def test_the_clients_headers_pass_but_those_of_its_hop_and_its_key_do_not(
    router: LiveRouter,
) -> None:
    await router.chat(
        {
            "authorization": "Bearer the-clients-key",
            "x-api-key": "the-clients-key",
            "api-key": "the-clients-key",
            "cookie": "session=the-clients-key",
            "proxy-authorization": "Basic the-clients-key",
            "connection": "keep-alive, X-Of-This-Hop",
            "x-of-this-hop": "1",
            "te": "trailers",
            "keep-alive": "timeout=5",
            "accept-encoding": "gzip",
            "x-custom": "passes",
            "traceparent": "00-1-2-01",
            "x-request-id": "id-1",
        }
    )
    (received,) = router.engines[0].received
    assert dict(received.headers) == {
        b"host": b"engine",
        b"accept": b"*/*",
        b"user-agent": received.header(b"user-agent"),
        b"content-type": b"application/json",
        b"x-custom": b"passes",
        b"traceparent": b"00-1-2-01",
        b"authorization": b"Bearer " + TOKEN.encode(),
        b"x-request-id": b"id-1",
        b"content-length": b"%d" % len(received.body),
    }
    assert len(received.headers) == 9


async def test_several_lists_of_headers_of_the_hop_count_together(router: LiveRouter) -> None:
    named = [("connection", "X-One"), ("connection", "x-two"), ("x-one", "1"), ("x-two", "2")]
    await router.http.post(CHAT, json={"model": MODEL}, headers=named)
    (received,) = router.engines[0].received
    assert not {b"x-one", b"x-two", b"connection"} & dict(received.headers).keys()


async def test_a_model_may_be_named_by_alias(router: LiveRouter) -> None:
    assert (await router.chat(model=ALIAS)).json()["model"] == ALIAS


async def test_no_model_means_the_only_one(router: LiveRouter) -> None:
    assert (await router.http.post(CHAT, json={"messages": MESSAGES})).status_code == 200


async def test_no_model_is_an_error_where_there_are_two(start_router: StartRouter) -> None:
    router = await start_router(Engine, models=[Model("a"), Model("b")])
    error = error_of(await router.http.post(CHAT, json={"messages": MESSAGES}), 400)
    assert error["param"] == "model"
    assert "a, b" in error["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b'{"model": ', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"a":' + b"[" * 100_000, "invalid_json"),
        (b'["an array"]', "invalid_value"),
        (b'{"model": 5}', "invalid_value"),
    ],
    ids=lambda value: str(value[:12]),
)
async def test_a_malformed_body_is_a_400(router: LiveRouter, body: bytes, code: str) -> None:
    assert error_of(await router.http.post(CHAT, content=body), 400)["code"] == code
    assert router.engines[0].requests == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_a_413(router: LiveRouter, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1000 + 1):
            yield b"x" * 1000

    content = pieces() if chunked else b"x" * (MAX_BODY_BYTES + 1)
    error = error_of(await router.http.post(CHAT, content=content), 413)
    assert error["code"] == "request_too_large"
    assert str(MAX_BODY_BYTES) in error["message"]


async def test_a_body_of_just_the_limit_passes(router: LiveRouter) -> None:
    body = json.dumps({"model": MODEL}).encode().ljust(MAX_BODY_BYTES)
    assert (await router.http.post(CHAT, content=body)).status_code == 200
    assert router.engines[0].received[0].body == body


async def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent(
    router: LiveRouter,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\nexpect: 100-continue\r\n\r\n"
        % (CHAT.encode(), MAX_BODY_BYTES + 1)
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


async def test_without_a_replica_the_client_gets_a_retry_after(
    start_router: StartRouter,
) -> None:
    router = await start_router(**IMPATIENT)
    response = await router.chat()
    error = error_of(response, 503)
    assert error["code"] == response.headers["x-refused"] == "no_replica"
    assert response.headers["retry-after"] == "1"
    with pytest.raises(openai.InternalServerError, match=MODEL):
        await router.openai.chat.completions.create(model=MODEL, messages=MESSAGES)


async def test_without_a_replica_a_request_waits_for_the_first(start_router: StartRouter) -> None:
    router = await start_router(Engine)
    router.directory.update(MODEL, [])
    answers = [asyncio.create_task(router.chat()) for _ in range(3)]
    served = router.directory.models[MODEL]
    await eventually(lambda: served.dispatcher.waiting == 3)
    router.directory.update(MODEL, router.infos)
    assert [(await answer).status_code for answer in answers] == [200] * 3


async def test_requests_go_where_the_policy_says(start_router: StartRouter) -> None:
    router = await start_router(Steered, Steered, placement="least_tokens")
    answers = [asyncio.create_task(router.chat(max_tokens=500))]
    busy = [await router.asked(0)]
    for _ in range(3):
        answers.append(asyncio.create_task(router.chat(max_tokens=100)))
        busy.append(await router.asked(1))
    assert [requests for requests, _ in await router.loads()] == [1, 3]

    busy[0].proceed()
    assert (await answers[0]).headers["x-replica"] == "replica-0"
    answers.append(asyncio.create_task(router.chat(max_tokens=100)))
    busy.append(await router.asked(0))
    for connection in busy[1:]:
        connection.proceed()
    replicas = [answer.headers["x-replica"] for answer in await asyncio.gather(*answers)]
    assert replicas == ["replica-0", "replica-1", "replica-1", "replica-1", "replica-0"]


async def test_tokens_are_in_flight_until_the_answer_is_over(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    answer, connection = await router.begin(stream=True, max_tokens=100)
    ((requests, tokens),) = await router.loads()
    assert (requests, tokens >= 100) == (1, True)
    connection.begin_stream(*EVENTS)
    assert await router.loads() == [(1, tokens)]
    connection.end_stream()
    await answer
    assert await router.loads() == [(0, 0)]


async def test_connections_to_an_engine_are_kept_and_used_again(router: LiveRouter) -> None:
    for stream in (False, True, False, True):
        assert (await router.chat(stream=stream)).status_code == 200
    assert router.engines[0].accepted == 1


async def test_a_replica_that_leaves_finishes_what_it_is_answering(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, Engine)
    leaving = router.engines[0]
    answer, connection = await router.begin(stream=True)
    connection.begin_stream(EVENTS[0])
    router.directory.update(MODEL, router.infos[1:])
    assert (await router.chat()).headers["x-replica"] == "replica-1"
    connection.send(EVENTS[1])
    connection.end_stream()
    assert (await answer).content == EVENTS[0] + EVENTS[1]
    await eventually(lambda: not leaving.connections)


@pytest.mark.parametrize("hostile", [b"a\x00b", b"a\r\nb", b"\x7f", b"\x1b[2J", b" ", b"x" * 129])
def test_what_may_not_stand_in_a_log_line_is_no_request_id(hostile: bytes) -> None:
    replaced = client_request_id([(b"x-request-id", hostile)])
    assert len(replaced) == 32 and replaced.isalnum()

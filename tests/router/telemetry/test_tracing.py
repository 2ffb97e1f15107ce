import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from serving.router.telemetry.tracing import Tracing
from tests.support.collector import Collector, Received, running_collector
from tests.support.engines import Engine, ResetsBeforeHead
from tests.support.live_router import CHAT, MODEL, TOKEN, LiveRouter, StartRouter
from tests.support.ports import free_port
from tests.support.storyteller import STORY, Storyteller, breaking, resets

TRACE, CLIENTS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROMPT = "a secret that only the engine may see"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}]}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture
async def tracing(collector: Collector) -> AsyncIterator[Tracing]:
    tracing = Tracing(f"{collector.endpoint}/v1/traces")
    yield tracing
    await tracing.close()


async def the_span(tracing: Tracing, collector: Collector) -> Received:
    await tracing.close()
    (span,) = collector.spans
    return span


def traceparents(router: LiveRouter) -> list[tuple[str, str, bool]]:
    """Returns the trace, the parent and the sampling flag that each engine received."""
    parents = []
    for engine in router.engines:
        header = engine.received[0].header(b"traceparent")
        assert header is not None
        _, trace_id, span_id, flags = header.decode().split("-")
        parents.append((trace_id, span_id, bool(int(flags, 16) & 1)))
    return parents


async def test_a_request_is_a_span_in_the_clients_trace_and_the_parent_of_the_engines(
    start_router: StartRouter, tracing: Tracing, collector: Collector
) -> None:
    router = await start_router(Engine, tracing=tracing)
    answer = await router.chat(
        {
            "traceparent": f"00-{TRACE}-{CLIENTS_SPAN}-01",
            "tracestate": "vendor=1",
            "x-request-id": "id-1",
            "authorization": "Bearer the-clients-key",
        },
        **ASK,
        max_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert answer.status_code == 200
    span = await the_span(tracing, collector)
    assert (span.service, span.name) == ("mistral-serve-router", f"chat {MODEL}")
    assert (span.trace_id, span.parent_id) == (TRACE, CLIENTS_SPAN)
    assert traceparents(router) == [(TRACE, span.span_id, True)]
    assert router.engines[0].received[0].header(b"tracestate") == b"vendor=1"
    names = [name for name, _ in router.engines[0].received[0].headers]
    assert len(names) == len(set(names))
    assert not span.failed
    attributes = dict(span.attributes)
    assert attributes.pop("gen_ai.response.time_to_first_chunk") > 0
    assert attributes.pop("mistral_serve.queue_ms") >= 0
    assert attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": CHAT,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral-serve",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 5,
        "mistral_serve.request_id": "id-1",
        "mistral_serve.outcome": "answered",
        "mistral_serve.tenant": "default",
        "mistral_serve.replica": "replica-0",
        "mistral_serve.expected_cached_tokens": 0,
        "mistral_serve.retries": 0,
        "mistral_serve.continued": 0,
        "mistral_serve.handed_over": 0,
    }
    for secret in (PROMPT, "the-clients-key", TOKEN):
        assert secret not in repr(span)
    assert json.loads(router.lines[0])["trace_id"] == TRACE


@pytest.mark.parametrize("traceparent", [None, "nonsense", f"00-{'0' * 32}-{CLIENTS_SPAN}-01"])
async def test_without_a_trace_of_the_clients_one_begins(
    start_router: StartRouter, tracing: Tracing, collector: Collector, traceparent: str | None
) -> None:
    router = await start_router(Engine, tracing=tracing)
    await router.chat({"traceparent": traceparent} if traceparent else {}, **ASK)
    span = await the_span(tracing, collector)
    assert span.parent_id == ""
    assert traceparents(router) == [(span.trace_id, span.span_id, True)]


async def test_a_trace_that_the_client_does_not_sample_is_not_sent(
    start_router: StartRouter, tracing: Tracing, collector: Collector
) -> None:
    router = await start_router(Engine, tracing=tracing)
    await router.chat({"traceparent": f"00-{TRACE}-{CLIENTS_SPAN}-00"}, **ASK)
    await tracing.close()
    assert collector.spans == []
    ((trace_id, _, sampled),) = traceparents(router)
    assert (trace_id, sampled) == (TRACE, False)


async def test_replicas_that_failed_and_those_that_went_on_are_in_one_trace(
    start_router: StartRouter, tracing: Tracing, collector: Collector
) -> None:
    router = await start_router(ResetsBeforeHead, breaking(5, resets), Storyteller, tracing=tracing)
    answer = await router.chat(**ASK, stream=True)
    assert answer.text.count('"content":') >= len(STORY)
    span = await the_span(tracing, collector)
    assert traceparents(router) == [(span.trace_id, span.span_id, True)] * 3
    assert span.attributes["mistral_serve.retries"] == 2
    assert span.attributes["mistral_serve.continued"] == 1
    assert span.attributes["mistral_serve.replica"] == "replica-1"
    assert not span.failed


async def test_failures_are_in_the_span(
    start_router: StartRouter, tracing: Tracing, collector: Collector
) -> None:
    router = await start_router(breaking(3, resets), tracing=tracing)
    await router.http.post(CHAT, content=b"{")
    await router.http.post("/tokenize", json={"model": "who"})
    with pytest.raises(httpx.RemoteProtocolError):
        await router.chat(**ASK, stream=True, n=2)
    await tracing.close()
    spans = [
        (span.name, span.attributes.get("error.type"), span.failed) for span in collector.spans
    ]
    assert spans == [
        (CHAT, "invalid_json", False),
        ("/tokenize", "model_not_found", False),
        (f"chat {MODEL}", "broken", True),
    ]


async def test_a_collector_that_is_away_loses_spans_and_nothing_else(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    monkeypatch.setattr("serving.router.telemetry.tracing._CLOSE_S", 0.1)
    away = Tracing(f"http://127.0.0.1:{free_port()}/v1/traces")
    router = await start_router(Engine, tracing=away)
    answers = await asyncio.gather(*(router.chat(**ASK) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    async with asyncio.timeout(5):
        await away.close()


async def test_without_a_collector_the_clients_trace_goes_straight_to_the_engine(
    start_router: StartRouter,
) -> None:
    router = await start_router(Engine)
    await router.chat({"traceparent": f"00-{TRACE}-{CLIENTS_SPAN}-01"}, **ASK)
    assert traceparents(router) == [(TRACE, CLIENTS_SPAN, True)]
    assert json.loads(router.lines[0])["trace_id"] is None

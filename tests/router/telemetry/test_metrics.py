"""The metrics that a router exposes about its requests."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from starlette.types import Message

from serving.placement import Capacity
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.tenants import Tenant
from tests.support.engines import Engine, ResetsBeforeHead, Steered
from tests.support.keys import key_record, keys_of
from tests.support.live_router import CHAT, IMPATIENT, MODEL, ON_BACKEND, LiveRouter, StartRouter
from tests.support.storyteller import STORY, Storyteller, breaking, resets
from tests.support.waiting import eventually

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}

USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


class Scrape:
    def __init__(self, text: str) -> None:
        self.samples: list[Sample] = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def __getitem__(self, name: str) -> float:
        """Returns the sum of the series with this name, without its prefix and with these labels,
        as in `tokens_total{type="input"}`."""
        name, _, selector = name.partition("{")
        labels = [one.split("=") for one in selector.rstrip("}").split(",") if one]
        wanted = {label: value.strip('"') for label, value in labels}
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"mistral_serve_{name}" and wanted.items() <= sample.labels.items()
        ]
        assert found, f"no {name} with {wanted}"
        return sum(found)

    def outcomes(self) -> dict[str, float]:
        """Returns the counters of all outcomes that occurred."""
        return {
            outcome: count
            for outcome in ("answered", "client_gone", "refused", "invalid", "failed", "broken")
            if (count := self[f'requests_total{{outcome="{outcome}"}}'])
        }


async def scrape(router: LiveRouter, requests: int | None = None) -> Scrape:
    """Waits until `requests` have ended, and reads the metrics."""
    await eventually(lambda: requests in (None, len(router.lines)))
    response = await router.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return Scrape(response.text)


async def test_all_counters_are_there_at_0_before_the_first_request(router: LiveRouter) -> None:
    of_router = await scrape(router, 0)
    counters = [s for s in of_router.samples if s.name.endswith(("_total", "_count", "_bucket"))]
    counters = [s for s in counters if s.name.startswith("mistral_serve_")]
    counters = [s for s in counters if "event_loop" not in s.name]
    assert len(counters) > 40
    assert not any(sample.value for sample in counters)
    assert of_router["available_replicas"] == 1


async def test_the_event_loop_counts_the_time_for_which_it_is_busy(router: LiveRouter) -> None:
    async def busy_s() -> float:
        return (await scrape(router))["event_loop_busy_seconds_total"]

    began_s, before_s = time.monotonic(), await busy_s()
    await asyncio.sleep(0.2)
    idle_s = await busy_s() - before_s
    until_s = time.monotonic() + 0.5
    while time.monotonic() < until_s:
        pass
    used_s = await busy_s() - before_s - idle_s
    assert 0.4 < used_s <= time.monotonic() - began_s
    assert idle_s < used_s


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answered_request_is_counted(router: LiveRouter, stream: bool) -> None:
    ask = ASK | USAGE if stream else ASK
    await router.chat(**ask, max_tokens=16, stream=stream)
    of_router = await scrape(router, 1)
    assert of_router.outcomes() == {"answered": 1}
    assert of_router[f'requests_total{{model="{MODEL}",outcome="answered"}}'] == 1
    assert of_router["request_duration_seconds_count"] == 1
    assert of_router["queue_time_seconds_count"] == 1
    assert of_router["time_to_first_token_seconds_count"] == stream
    assert of_router['tokens_total{type="output"}'] == 16
    assert of_router['tokens_total{type="input"}'] > 0
    assert of_router['tenant_requests_total{tenant="default"}'] == 1
    assert of_router['tenant_tokens_total{tenant="default",type="output"}'] == 16


async def test_a_stream_counts_the_time_before_each_further_token(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    asking = asyncio.create_task(router.open_stream(**ASK))
    engine = await router.asked()
    token, done = b"data: {}\n\n", b"data: [DONE]\n\n"
    engine.begin_stream(token)
    answer = await asking
    pieces = answer.aiter_raw()
    assert await anext(pieces) == token
    assert (await scrape(router))["time_to_first_token_seconds_count"] == 1
    for piece in (token, token * 3, token + done):
        engine.send(piece)
        assert await anext(pieces) == piece
    engine.end_stream()
    await answer.aclose()
    after = await scrape(router, 1)
    assert after.outcomes() == {"answered": 1}
    assert after["inter_token_latency_seconds_count"] == 5


async def test_a_long_stream_is_counted_while_it_goes_on(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    asking = asyncio.create_task(router.open_stream(**ASK))
    engine = await router.asked()
    token = b"data: {}\n\n"
    engine.begin_stream(token)
    answer = await asking
    pieces = answer.aiter_raw()
    assert await anext(pieces) == token
    for _ in range(40):
        engine.send(token)
        assert await anext(pieces) == token
    assert (await scrape(router))["inter_token_latency_seconds_count"] >= 30
    engine.end_stream()
    await answer.aclose()
    assert (await scrape(router, 1))["inter_token_latency_seconds_count"] == 40


async def test_each_end_of_a_request_has_its_outcome(start_router: StartRouter) -> None:
    router = await start_router(Steered, **IMPATIENT)

    async def answered(status: bytes) -> None:
        asking, engine = await router.begin(**ASK)
        engine.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % status)
        await asking

    await answered(b"200 OK")
    await answered(b"400 Bad Request")
    await answered(b"500 Internal Server Error")
    await router.chat(model="gpt-4")
    await router.chat(max_tokens="many")
    asking = asyncio.create_task(router.chat(**ASK))
    await router.asked()
    asking.cancel()
    await eventually(lambda: len(router.lines) == 6)
    router.directory.update(MODEL, [])
    assert (await router.chat(**ASK)).headers["x-refused"] == "no_replica"
    of_router = await scrape(router, 7)
    assert of_router.outcomes() == {
        "answered": 1,
        "invalid": 3,
        "failed": 2,
        "client_gone": 1,
    }
    assert of_router['requests_total{model="unknown",outcome="invalid"}'] == 2
    assert of_router['refused_requests_total{reason="no_replica"}'] == 1
    assert of_router["refused_requests_total"] == 1
    assert of_router["available_replicas"] == 0
    assert of_router["request_duration_seconds_count"] == 1


async def test_retries_and_continued_streams_are_counted(start_router: StartRouter) -> None:
    router = await start_router(ResetsBeforeHead, breaking(3, resets), Storyteller)
    assert (await router.chat(**ASK, **USAGE, stream=True)).status_code == 200
    of_router = await scrape(router, 1)
    assert of_router.outcomes() == {"answered": 1}
    assert of_router["retries_total"] == 2
    assert of_router["continued_streams_total"] == 1
    assert of_router["time_to_first_token_seconds_count"] == 1
    assert of_router['tokens_total{type="output"}'] == len(STORY)


async def test_a_broken_stream_is_counted_as_broken(start_router: StartRouter) -> None:
    router = await start_router(breaking(3, resets), Storyteller)
    with pytest.raises(httpx.RemoteProtocolError):
        await router.chat(**ASK, stream=True, n=2)
    assert (await scrape(router, 1)).outcomes() == {"broken": 1}


async def test_what_was_done_to_requests_is_counted(start_router: StartRouter) -> None:
    router = await start_router(Engine, models=[ON_BACKEND])
    await router.chat(**ASK)
    await router.chat(**ASK, max_tokens=10**9)
    await router.chat(**ASK, reasoning_effort="low")
    of_router = await scrape(router, 3)
    assert of_router['rewritten_requests_total{rewrite="max_tokens_clamped"}'] == 1
    assert of_router['rewritten_requests_total{rewrite="warned"}'] == 1
    assert of_router['rewritten_requests_total{rewrite="normalised"}'] == 2


async def test_cached_tokens_are_counted_as_expected_and_as_they_were(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    ask: dict[str, Any] = {"messages": [{"role": "user", "content": "word " * 1000}]}
    for said in (b"0", b"1000"):
        asking, engine = await router.begin(**ask)
        engine.transport.write(
            b"HTTP/1.1 200 OK\r\nx-cached-tokens: %b\r\ncontent-length: 0\r\n\r\n" % said
        )
        await asking
    of_router = await scrape(router, 2)
    assert of_router["cached_tokens_total"] == 1000
    assert of_router["expected_cached_tokens_total"] > 500


async def test_bookings_and_the_queue_length_are_exposed(start_router: StartRouter) -> None:
    router = await start_router(Steered, capacity=Capacity(10**6, 1))
    asking = [asyncio.create_task(router.chat(**ASK)) for _ in range(3)]
    engine = await router.asked()
    await eventually(lambda: router.directory.models[MODEL].dispatcher.waiting == 2)
    of_router = await scrape(router)
    assert of_router["queue_length"] == 2
    assert of_router['booked_tokens{replica="replica-0"}'] > 0
    engine.proceed()
    for _ in range(2):
        (await router.asked()).proceed()
    await asyncio.gather(*asking)
    of_router = await scrape(router, 3)
    assert of_router["queue_length"] == of_router["booked_tokens"] == 0
    assert of_router["queue_time_seconds_count"] == 3


async def test_the_number_of_series_is_bounded_whatever_clients_send(
    start_router: StartRouter, tmp_path: Path
) -> None:
    """3 models with 3 replicas each, 50 tenants that use all of them, every outcome and reason, and
    10,000 names of no model."""
    tenants = [f"tenant-{i}" for i in range(50)]
    keys = [key_record(f"key-of-{tenant}", tenant) for tenant in tenants]
    router = await start_router(
        Engine,
        models=[Model(f"mistral-test/{i}") for i in range(3)],
        tenants=[Tenant(name=tenant) for tenant in tenants],
        authentication=keys_of(tmp_path, *keys),
    )
    port = router.infos[0].port
    for model_id in router.directory.models:
        infos = [ReplicaInfo(f"{model_id}-{i}", "127.0.0.1", port, 8192) for i in range(3)]
        router.directory.update(model_id, infos)
    for tenant in tenants:
        key: dict[str, str | bytes] = {"authorization": f"Bearer key-of-{tenant}"}
        for model in router.directory.models:
            assert (await router.chat(key, model=model, stream=True)).status_code == 200
    for i in range(10_000):
        sent = f"Bearer key-of-{tenants[i % 50]}"
        assert await status_of_chat(router, sent, f"made-up-{i}") == 404
    assert await status_of_chat(router, "Bearer made-up", "made-up") == 401
    of_router = await scrape(router, 150 + 10_001)
    assert of_router.outcomes() == {"answered": 150, "invalid": 10_001}
    assert of_router["tenant_requests_total"] == 150 + 10_000
    assert len(of_router.samples) == 493


async def status_of_chat(router: LiveRouter, authorization: str, model: str) -> int:
    """Returns the status of a chat without a connection, which would take most of the time."""
    body = b'{"model": "%b"}' % model.encode()
    headers = [(b"authorization", authorization.encode())]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": CHAT,
        "headers": headers,
    }
    statuses = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        statuses.append(message.get("status"))

    await router.app(scope, receive, send)
    assert isinstance(statuses[0], int)
    return statuses[0]

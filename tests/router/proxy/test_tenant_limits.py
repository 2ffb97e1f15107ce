"""Tenants' limits, through the endpoints that clients use."""

import json
import re
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from serving.dispatch import TenantLimits
from serving.tenants import Tenant
from tests.router.telemetry.test_metrics import scrape
from tests.support.engines import Engine, Steered
from tests.support.keys import key_record, keys_of
from tests.support.live_router import MODEL, LiveRouter, StartRouter
from tests.support.waiting import eventually

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
KEY, FREE = "sk-limited", "sk-free"
OF_TENANT: Any = {"authorization": f"Bearer {KEY}"}
OF_FREE: Any = {"authorization": f"Bearer {FREE}"}


async def started(
    start_router: StartRouter, folder: Path, engine: type[Engine] = Engine, **limits: int
) -> LiveRouter:
    return await start_router(
        engine,
        tenants=[
            Tenant(name="limited", limits=TenantLimits(**limits)),
            Tenant(name="free"),
        ],
        authentication=keys_of(folder, key_record(KEY, "limited"), key_record(FREE, "free")),
    )


async def test_a_client_sees_what_is_left_and_then_when_to_come_back(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await started(start_router, tmp_path, requests_per_minute=2, tokens_per_minute=9000)
    first = await router.chat(OF_TENANT, **ASK)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert re.fullmatch(r"(59|1m0)(\.\d+)?s", first.headers["x-ratelimit-reset-requests"])
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 9000
    assert (await router.chat(OF_TENANT, **ASK)).status_code == 200
    refused = await router.chat(OF_TENANT, **ASK)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["x-refused"] == "requests_per_minute"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 50 <= int(refused.headers["retry-after"]) <= 61
    free = await router.chat(OF_FREE, **ASK)
    assert free.status_code == 200
    assert not any("ratelimit" in name for name in free.headers)
    await eventually(lambda: len(router.lines) == 4)
    line = json.loads(router.lines[2])
    assert (line["outcome"], line["limit"]) == ("limited", "requests_per_minute")
    of_router = await scrape(router, 4)
    limited = 'tenant_limited_requests_total{limit="requests_per_minute",tenant="limited"}'
    assert of_router[limited] == 1
    assert of_router['tenant_engine_seconds_total{tenant="free"}'] > 0


async def test_openais_client_raises_its_own_errors(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await started(start_router, tmp_path, tokens_per_day=700)
    client = router.openai.with_options(api_key=KEY)
    await client.chat.completions.create(model=MODEL, **ASK)
    with pytest.raises(openai.RateLimitError) as too_large:
        await client.chat.completions.create(model=MODEL, **ASK | {"n": 4})
    assert too_large.value.code == "insufficient_quota"
    assert too_large.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in too_large.value.response.headers


async def test_anthropics_client_reads_its_own_headers(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await started(start_router, tmp_path, requests_per_minute=1)
    client = anthropic.AsyncAnthropic(base_url=router.url, api_key=KEY, max_retries=0)
    async with client:
        ask: Any = {"model": MODEL, "max_tokens": 16, **ASK}
        raw = await client.messages.with_raw_response.create(**ask)
        assert raw.headers["anthropic-ratelimit-requests-remaining"] == "0"
        with pytest.raises(anthropic.RateLimitError) as refused:
            await client.messages.create(**ask)
    assert refused.value.response.json()["error"]["type"] == "rate_limit_error"


async def test_tokens_are_corrected_when_the_answer_ends(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await started(start_router, tmp_path, tokens_per_minute=1000)
    for _ in range(3):
        assert (await router.chat(OF_TENANT, **ASK)).status_code == 200
    await eventually(lambda: len(router.lines) == 3)
    used = sum(
        line["input_tokens"] + line["output_tokens"] for line in map(json.loads, router.lines)
    )
    last = await router.chat(OF_TENANT, **ASK, max_tokens=1)
    assert 1000 - used - 50 < int(last.headers["x-ratelimit-remaining-tokens"]) < 1000 - used


async def test_a_prompt_that_the_engine_refuses_counts_no_tokens(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await started(start_router, tmp_path, Steered, tokens_per_minute=1000)
    answer, connection = await router.begin(OF_TENANT, **ASK)
    connection.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}")
    assert (await answer).status_code == 400
    await eventually(lambda: len(router.lines) == 1)
    line = json.loads(router.lines[0])
    assert line["prompt_tokens"] > 0 == line["input_tokens"]
    assert (await scrape(router))['tokens_total{type="input"}'] == 0
    answer, connection = await router.begin(OF_TENANT, **ASK, max_tokens=1)
    connection.proceed()
    left = int((await answer).headers["x-ratelimit-remaining-tokens"])
    assert left > 1000 - 2 * line["prompt_tokens"]


async def test_a_request_beyond_the_limit_is_refused_before_its_body_is_read(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await started(start_router, tmp_path, requests_per_minute=1)
    assert (await router.chat(OF_TENANT, **ASK)).status_code == 200
    response = await router.http.post("/v1/chat/completions", content=b"no json", headers=OF_TENANT)
    assert response.status_code == 429


async def test_those_at_a_time_are_limited_until_one_ends(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await started(start_router, tmp_path, Steered, concurrent_requests=1)
    answer, connection = await router.begin(OF_TENANT, **ASK)
    refused = await router.chat(OF_TENANT, **ASK)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["x-refused"] == "concurrent_requests"
    connection.proceed()
    assert (await answer).status_code == 200
    await eventually(lambda: len(router.lines) == 2)
    answer, connection = await router.begin(OF_TENANT, **ASK)
    connection.proceed()
    assert (await answer).status_code == 200

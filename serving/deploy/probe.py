"""Probes a running service: whether it answers, and how soon."""

import asyncio
import json
import math
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from serving.deploy.errors import DeployError

_AT_A_TIME = 4
_TIMEOUT = httpx.Timeout(120, connect=10)
_PROMPT = "Name the capital of France in one word."
_MAX_TOKENS = 16


@dataclass(frozen=True)
class Probed:
    """The outcome of a probe. `ttft_s` has the TTFT of each answered request but the first of each
    model; `failures` counts the reasons; `models` are those that the service lists.
    """

    sent: int
    ttft_s: tuple[float, ...] = ()
    failures: Counter[str] = field(default_factory=Counter)
    models: tuple[str, ...] = ()

    @property
    def error_rate(self) -> float:
        return self.failures.total() / self.sent if self.sent else 0.0

    @property
    def median_ttft_s(self) -> float:
        return statistics.median(self.ttft_s) if self.ttft_s else math.inf

    def __str__(self) -> str:
        if not self.ttft_s:
            return f"{self.sent} requests, {self.failures.total()} failed"
        return (
            f"{self.sent} requests, {self.failures.total()} failed, "
            f"median TTFT {1000 * self.median_ttft_s:.0f} ms"
        )


async def probe(url: str, api_key: str | None, requests: int) -> Probed:
    """Sends requests to the models that a service lists in turn, at least two to each. Raises
    DeployError."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT) as http:
        try:
            response = await http.get("/v1/models")
            ids = [str(each["id"]) for each in response.raise_for_status().json()["data"]]
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise DeployError(f"{url} lists no models: {_words(error)}") from None
        requests = max(requests, 2 * len(ids))
        gate = asyncio.Semaphore(_AT_A_TIME)

        async def one(index: int) -> float | str:
            async with gate:
                return await _ask(http, ids[index % len(ids)])

        first = await asyncio.gather(*(one(index) for index in range(len(ids))))
        rest = await asyncio.gather(*(one(index) for index in range(len(ids), requests)))
    return Probed(
        requests,
        tuple(each for each in rest if isinstance(each, float)),
        Counter(each for each in [*first, *rest] if isinstance(each, str)),
        tuple(ids),
    )


async def _ask(http: httpx.AsyncClient, model: str) -> float | str:
    """The TTFT in seconds, or the reason of the failure."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
        "stream": True,
    }
    start_s, ttft_s, done = time.monotonic(), None, False
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                return f"{model}: HTTP {response.status_code}"
            async for line in response.aiter_lines():
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    done = True
                elif data != line and _has_token(json.loads(data)) and ttft_s is None:
                    ttft_s = time.monotonic() - start_s
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        return f"{model}: {_words(error)}"
    if ttft_s is None or not done:
        return f"{model}: the answer broke off"
    return ttft_s


def _has_token(event: Any) -> bool:
    if "error" in event:
        raise ValueError(f"an error in the stream: {event['error'].get('type', '')}")
    deltas = (choice["delta"] for choice in event["choices"])
    return any(delta.get("content") or delta.get("reasoning") for delta in deltas)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

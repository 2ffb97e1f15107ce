"""Each panel, rule and runbook finds data in a real Prometheus that has watched a real service from
its start, under the load of all end-to-end tests and of every feature.
"""

import concurrent.futures
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from tests.dashboards.live import Prometheus, without_data
from tests.e2e import images
from tests.e2e.killed_engine import KilledEngine
from tests.e2e.service import ENDLESS, MODEL, Service

_ALL_HAVE_DATA_S = 300
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def say(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def picture() -> dict[str, Any]:
    parts = [
        {"type": "text", "text": "What colour is it?"},
        {"type": "image_url", "image_url": {"url": images.solid("red")}},
    ]
    return {"model": MODEL, "messages": [{"role": "user", "content": parts}]}


Ask = Callable[[httpx.Client], Any]


def chat(body: dict[str, Any], **headers: str) -> Ask:
    return lambda http: http.post("/v1/chat/completions", json=body, headers=headers)


def leave(http: httpx.Client) -> None:
    """A client that disconnects in the middle of its answer."""
    with http.stream("POST", "/v1/chat/completions", json=ENDLESS) as response:
        next(response.iter_lines())


_SHARED = "You are a patient guide through the city of Paris. " * 20
FEATURES: list[Ask] = [
    chat(say("Count from 1 to 10.", stream=True)),
    chat(say("Count from 1 to 10.", stream=True, stream_options={"include_usage": True})),
    chat(say(_SHARED + "What is the capital of France?")),
    chat(say("What is the weather in Paris?", tools=[_TOOL])),
    chat(picture()),
    chat(say("Repeat the word hello forever.", max_tokens=200, temperature=0)),
    chat(say("Hello", max_tokens=1_000_000)),  # clamped
    chat({"model": "gpt-4", "messages": []}),
    chat(say("Hello", max_tokens="many")),
    chat(say("Hello"), **{"x-request-timeout": "0.001"}),  # rejected
    lambda http: http.post("/v1/completions", json={"model": MODEL, "prompt": "Hello"}),
    leave,
]


@contextlib.contextmanager
def load_of_every_feature(service: Service) -> Iterator[None]:
    """Three clients send the requests of FEATURES in turn while the context is open."""
    over = threading.Event()

    def client(features: list[Ask]) -> None:
        with httpx.Client(base_url=service.url, timeout=120) as http:
            for ask in itertools.cycle(features):
                if over.is_set():
                    return
                ask(http)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client, FEATURES[n:] + FEATURES[:n]) for n in (0, 4, 8)]
        try:
            yield
        finally:
            over.set()
    for done in clients:
        done.result()


def test_no_alert_fires_on_a_healthy_service(
    monitored: Prometheus, killed_engine: KilledEngine
) -> None:
    firing = 'ALERTS{alertstate="firing",service="mistral-serve"}'
    assert not monitored.has(firing, killed_engine.killed_s)


def test_a_retry_is_counted(monitored: Prometheus, killed_engine: KilledEngine) -> None:
    assert monitored.has("mistral_serve_retries_total > 0", time.time())


def test_each_query_finds_data(
    service: Service, monitored: Prometheus, killed_engine: KilledEngine
) -> None:
    deadline_s = time.monotonic() + _ALL_HAVE_DATA_S
    with load_of_every_feature(service):
        while (lacking := without_data(monitored, time.time())) and time.monotonic() < deadline_s:
            time.sleep(2)
    assert not lacking, "\n".join(lacking)

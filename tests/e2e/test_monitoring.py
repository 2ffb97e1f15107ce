"""Each panel, rule and runbook finds data in a real Prometheus on a real service under load."""

import concurrent.futures
import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from serving.cli import pidfile
from serving.cli.monitor import config, prometheus
from tests.dashboards.live import Prometheus, without_data
from tests.dashboards.queries import FOLDER
from tests.e2e import images
from tests.e2e.service import ENDLESS, MODEL, Service, free_port, running, title, wait_for
from tests.e2e.service import write_config as local_config

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus: apt-get install prometheus"
)

_LOAD_S = 100
"""Longer than the window of the panels' rates."""
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas that the policy decides on."""
    file = local_config(
        tmp_path_factory.mktemp("monitoring") / "service.yaml",
        free_port(),
        autoscaling={"min_replicas": 2, "max_replicas": 2},
    )
    with running(file) as service:
        yield service


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
    """A client that goes in the middle of its answer."""
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
    chat(say("Hello"), **{"x-request-timeout": "0.001"}),  # refused
    lambda http: http.post("/v1/completions", json={"model": MODEL, "prompt": "Hello"}),
    leave,
]


def load(service: Service, over: threading.Event, features: list[Ask]) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as http:
        for ask in itertools.cycle(features):
            if over.is_set():
                return
            with contextlib.suppress(httpx.RemoteProtocolError):  # what cannot be continued is cut
                ask(http)


def test_each_query_finds_data_under_a_load_of_every_feature(scaled: Service) -> None:
    program = shutil.which("prometheus")
    assert program is not None
    wait_for(lambda: len(scaled.replicas()) == 2, 60, "the router knows both replicas")
    ray = pidfile.ray_metrics(int(scaled.url.rsplit(":", 1)[1]))
    assert ray is not None, "where Ray exports its metrics is noted"
    settings, port = config(scaled.url, FOLDER / "rules", ray), free_port()
    with prometheus(program, settings, port):
        asked = Prometheus(f"http://127.0.0.1:{port}", time.time())
        over = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            loads = [
                pool.submit(load, scaled, over, FEATURES[start:] + FEATURES[:start])
                for start in (0, 4, 8)
            ]
            try:
                over.wait(_LOAD_S)
                firing = 'ALERTS{alertstate="firing",service="mistral-serve"}'
                assert not asked.has(firing, time.time()), "an alert fires on a healthy service"
                victim = next(p for p in scaled.processes if "EngineCore" in title(p))
                victim.kill()
                retried = "mistral_serve_retries_total > 0"
                wait_for(lambda: asked.has(retried, time.time()), 60, "a request was retried")
            finally:
                over.set()
            for future in loads:
                future.result()
        # Rules with the longest windows are evaluated every two minutes.
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not without_data(asked, time.time()), 300, "all have data")
        lacking = without_data(asked, time.time())
        assert not lacking, "\n".join(lacking)

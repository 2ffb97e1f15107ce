"""Compares the stand-in engine of the speed and fault tests with a real one."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.service import Service
from tests.support.http_server import BackgroundServer
from tests.support.stand_in_engine import StandInEngine

BODY = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Count from 1 to 50."}],
    "max_tokens": 20,
    "temperature": 0,
}
STREAM = BODY | {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    """The URL of a stand-in engine."""
    with BackgroundServer(StandInEngine) as server:
        yield server.url


def shape(value: Any) -> Any:
    """The keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def answered(value: Any) -> Any:
    """The JSON value without its null fields."""
    if isinstance(value, dict):
        return {key: answered(item) for key, item in value.items() if item is not None}
    return [answered(item) for item in value] if isinstance(value, list) else value


def test_an_unstreamed_answer_has_the_same_fields(service: Service, stand_in: str) -> None:
    real, imitated = (
        httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=60)
        for url in (service.url, stand_in)
    )
    assert real.headers["content-type"] == imitated.headers["content-type"]
    assert shape(answered(real.json())) == shape(answered(imitated.json()))
    assert imitated.json().keys() <= real.json().keys()


def events(url: str) -> tuple[str, list[Any]]:
    """The content type, and the shape of each event that differs from the one before."""
    response = httpx.post(f"{url}/v1/chat/completions", json=STREAM, timeout=60)
    *data, end = response.text.split("\n\n")
    assert end == ""
    shapes = [
        line if line == "data: [DONE]" else shape(json.loads(line.removeprefix("data: ")))
        for line in data
    ]
    return response.headers["content-type"], [s for s, _ in itertools.groupby(shapes)]


def test_a_stream_has_the_same_events_in_the_same_order(service: Service, stand_in: str) -> None:
    assert events(service.url) == events(stand_in)

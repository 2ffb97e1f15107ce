"""How long Ray says that a node will be there."""

import asyncio
import math
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine import node_deadline
from serving.engine.node_deadline import follow_node, node_left_s
from tests.support.waiting import eventually


@pytest.fixture
def asked() -> list[float]:
    """The time-outs of the questions to the head."""
    return []


@pytest.fixture
def deadlines_s(monkeypatch: pytest.MonkeyPatch, asked: list[float]) -> Iterator[dict[str, float]]:
    """The nodes that drain, with the seconds until their deadlines, as the head tells them."""
    told: dict[str, float] = {}

    class Head:
        def __init__(self, address: str) -> None:
            assert address == "10.0.0.1:6379"

        def get_draining_nodes(self, timeout: float) -> dict[str, int]:
            asked.append(timeout)
            if "head" in told:
                raise RuntimeError("GCS is unavailable")
            return {node: int((time.time() + left_s) * 1000) for node, left_s in told.items()}

    context: Any = SimpleNamespace(gcs_address="10.0.0.1:6379", get_node_id=lambda: "this")
    monkeypatch.setattr("ray.get_runtime_context", lambda: context)
    monkeypatch.setattr("ray._raylet.GcsClient", Head)
    monkeypatch.setattr(node_deadline, "_PERIOD_S", 0.001)
    node_deadline._head.cache_clear()
    yield told
    node_deadline._head.cache_clear()


def test_a_node_that_does_not_drain_stays(deadlines_s: dict[str, float]) -> None:
    deadlines_s["another"] = 30
    assert node_left_s() == math.inf


def test_a_node_that_drains_has_the_time_until_its_deadline(deadlines_s: dict[str, float]) -> None:
    deadlines_s["this"] = 3000
    assert 2900 < node_left_s() <= 3000


def test_a_deadline_that_has_passed_says_nothing(deadlines_s: dict[str, float]) -> None:
    deadlines_s["this"] = -1
    assert node_left_s() == math.inf


async def test_a_node_is_followed_whether_or_not_the_head_is_there(
    deadlines_s: dict[str, float], asked: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[float] = []
    following = asyncio.create_task(follow_node(told.append))
    deadlines_s["head"] = 0
    deadlines_s["this"] = 3000
    await eventually(lambda: len(asked) >= 5)
    assert not told
    assert len(caplog.messages) == 1
    del deadlines_s["head"]
    await eventually(lambda: len(told) >= 3)
    assert 2900 < told[0] <= 3000
    following.cancel()

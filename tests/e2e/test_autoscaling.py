"""Replicas come and go with the load, and no request notices. Real Ray Serve and vLLM."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.service import MODEL, Service, free_port, running, wait_for, write_config

_COUNT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count from 1 to 10."}],
    "temperature": 0,
}
_LONG: dict[str, Any] = {**_COUNT, "ignore_eos": True, "max_tokens": 400, "stream": True}
_SCALE_S = 300
"""A replica starts within a minute, and is released as long after the last need."""


@pytest.fixture
def scaled(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    config = write_config(
        tmp_path / "scaled.yaml",
        free_port(),
        autoscaling=request.param,
        vllm_args={"max-num-seqs": 4},
    )
    with running(config) as service:
        yield service


def answered(service: Service, body: dict[str, Any]) -> bool:
    """Whether there was an answer, and to its end."""
    url = f"{service.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=_SCALE_S) as response:
        text = response.read().decode()
    return response.status_code == 200 and (not body.get("stream") or "data: [DONE]" in text)


@pytest.mark.parametrize("scaled", [{"min_replicas": 1, "max_replicas": 2}], indirect=True)
def test_a_burst_takes_a_second_replica_and_gives_it_back(scaled: Service) -> None:
    wait_for(lambda: len(scaled.replicas()) == 1, 60, "the router knows the replica")
    answers: list[Future[bool]] = []
    with ThreadPoolExecutor(32) as clients:

        def load(streams: int) -> None:
            """Keeps so many going."""
            going = sum(not answer.done() for answer in answers)
            answers.extend(clients.submit(answered, scaled, _LONG) for _ in range(streams - going))

        def replicas_under_load(replicas: int, streams: int) -> bool:
            load(streams)
            time.sleep(1)
            return len(scaled.replicas()) == replicas

        wait_for(lambda: replicas_under_load(2, streams=12), _SCALE_S, "2 replicas")
        wait_for(lambda: replicas_under_load(1, streams=1), _SCALE_S, "1 replica")
    assert [answer.result() for answer in answers] == [True] * len(answers)
    log = controller_log(scaled)
    assert f"autoscaling {MODEL}: 1 -> 2 replicas: signal " in log
    assert f"autoscaling {MODEL}: 2 -> 1 replicas: signal " in log


@pytest.mark.parametrize(
    "scaled", [{"min_replicas": 0, "max_replicas": 1, "idle_s": 10}], indirect=True
)
def test_from_zero_and_back(scaled: Service) -> None:
    for _ in range(2):
        assert scaled.replicas() == []
        assert httpx.get(f"{scaled.url}/health").status_code == 200
        assert answered(scaled, _COUNT)
        assert len(scaled.replicas()) == 1
        wait_for(lambda: not scaled.replicas(), _SCALE_S, "no replica")


def controller_log(service: Service) -> str:
    files = service.folder.glob("session_latest/logs/serve/controller_*.log")
    return "\n".join(file.read_text() for file in files)

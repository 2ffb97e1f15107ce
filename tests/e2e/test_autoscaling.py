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
def scaled(tmp_path: Path) -> Iterator[Service]:
    config = write_config(
        tmp_path / "scaled.yaml",
        free_port(),
        autoscaling={"min_replicas": 0, "max_replicas": 2, "idle_s": 10},
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


def test_from_zero_to_two_replicas_and_back(scaled: Service) -> None:
    assert scaled.replicas() == []
    assert httpx.get(f"{scaled.url}/health").status_code == 200
    assert answered(scaled, _COUNT)
    assert len(scaled.replicas()) == 1
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
    wait_for(lambda: not scaled.replicas(), _SCALE_S, "no replica")
    log = controller_log(scaled)
    for before, after in ((0, 1), (1, 2), (2, 1), (1, 0)):
        assert f"autoscaling {MODEL}: {before} -> {after} replicas: signal " in log


def controller_log(service: Service) -> str:
    files = service.folder.glob("session_latest/logs/serve/controller_*.log")
    return "\n".join(file.read_text() for file in files)

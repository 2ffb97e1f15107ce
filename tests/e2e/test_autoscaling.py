"""Replicas come and go with the load without harm to a request; then `down` stops the service.

This is real Ray Serve, with stand-ins for vLLM by default: the waits are for the policy, not for
the engines.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.e2e.service import (
    MODEL,
    Engines,
    Service,
    mistral_serve,
    running,
    running_processes,
    temporary_files,
    up_command,
    write_config,
)
from tests.support.ports import free_port
from tests.support.waiting import wait_for

_COUNT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count from 1 to 10."}],
    "temperature": 0,
}
_STREAM: dict[str, Any] = {**_COUNT, "ignore_eos": True, "stream": True}
_TOKENS: dict[Engines, int] = {"stand-in": 60, "vllm": 400}
"""Tokens of a stream: it takes a few seconds, so that no request waits long enough to be
rejected."""
_IDLE_S: dict[Engines, float] = {"stand-in": 3, "vllm": 10}
_SCALE_S = 300
"""Timeout: with vLLM a replica starts within a minute, and is released as long after the last
need."""


@pytest.fixture(scope="module")
def files_before() -> set[str]:
    return temporary_files()


@pytest.fixture(scope="module", params=["stand-in", pytest.param("vllm", marks=pytest.mark.full)])
def engines(request: pytest.FixtureRequest) -> Engines:
    engines: Engines = request.param
    return engines


@pytest.fixture(scope="module")
def scaled(
    engines: Engines,
    tmp_path_factory: pytest.TempPathFactory,
    files_before: set[str],
) -> Iterator[Service]:
    """A service that starts without replicas."""
    config = write_config(
        tmp_path_factory.mktemp("scaled") / "scaled.yaml",
        free_port(),
        autoscaling={"min_replicas": 0, "max_replicas": 2, "idle_s": _IDLE_S[engines]},
        vllm_args={"max-num-seqs": 4},
    )
    with running(config, *up_command(engines)) as service:
        yield service


def failure(service: Service, body: dict[str, Any]) -> str:
    """Sends a request. Returns None if the answer was complete, or else what arrived."""
    url = f"{service.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=_SCALE_S) as response:
        text = response.read().decode()
    if response.status_code == 200 and (not body.get("stream") or "data: [DONE]" in text):
        return ""
    return f"{response.status_code}: {text[-300:]}"


def test_from_zero_to_two_replicas_and_back(scaled: Service, engines: Engines) -> None:
    assert scaled.replicas() == []
    assert httpx.get(f"{scaled.url}/health", timeout=60).status_code == 200
    assert not failure(scaled, _COUNT)
    assert len(scaled.replicas()) == 1
    stream = _STREAM | {"max_tokens": _TOKENS[engines]}
    answers: list[Future[str]] = []
    with ThreadPoolExecutor(32) as clients:

        def load(streams: int) -> None:
            """Keeps this many streams running."""
            going = sum(not answer.done() for answer in answers)
            answers.extend(clients.submit(failure, scaled, stream) for _ in range(streams - going))

        def replicas_under_load(replicas: int, streams: int) -> bool:
            load(streams)
            time.sleep(0.2)
            return len(scaled.replicas()) == replicas

        wait_for(lambda: replicas_under_load(2, streams=12), _SCALE_S, "2 replicas")
        wait_for(lambda: replicas_under_load(1, streams=1), _SCALE_S, "1 replica")
    assert {answer.result() for answer in answers} == {""}
    wait_for(lambda: not scaled.replicas(), _SCALE_S, "no replica")
    log = controller_log(scaled)
    for before, after in ((0, 1), (1, 2), (2, 1), (1, 0)):
        assert f"autoscaling {MODEL}: {before} -> {after} replicas: signal " in log


def test_down_stops_the_service_and_leaves_nothing(scaled: Service, files_before: set[str]) -> None:
    port = scaled.url.rsplit(":", 1)[1]
    processes = scaled.processes
    assert len(processes) > 3
    down = mistral_serve("down", "--port", port)
    assert (down.returncode, down.stdout) == (0, "Stopped.\n")
    assert scaled.process.wait(30) == 0
    assert running_processes(processes) == []
    assert temporary_files() <= files_before
    again = mistral_serve("down", "--port", port)
    assert again.returncode == 1 and "No `mistral-serve up` is running" in again.stdout


def controller_log(service: Service) -> str:
    files = service.folder.glob("session_latest/logs/serve/controller_*.log")
    return "\n".join(file.read_text() for file in files)

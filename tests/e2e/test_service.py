"""Properties of the whole service besides its answers: engines' ports, memory, clients that
disconnect."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.service import ENDLESS, MODEL, Service
from tests.support.waiting import eventually, wait_for

GIB = 1024**3
LONG_LIST = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
"""A schema whose answers do not end before `max_tokens`."""
_HELLO = [{"role": "user", "content": "Hello"}]
_FORM = {"type": "json_schema", "name": "x", "schema": LONG_LIST}
ENDLESS_FORMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": _HELLO,
        "response_format": {"type": "json_schema", "json_schema": _FORM},
    },
    "/v1/completions": {
        "prompt": "Hello",
        "max_tokens": 4000,
        "structured_outputs": {"json": LONG_LIST},
    },
    "/v1/responses": {"input": "Hello", "text": {"format": _FORM}},
    "/v1/messages": {
        "messages": _HELLO,
        "max_tokens": 4000,
        "output_config": {"format": {"type": "json_schema", "schema": LONG_LIST}},
    },
}


@pytest.fixture(scope="module")
def engines(service: Service) -> Iterator[list[httpx.Client]]:
    """Clients of the engines' own ports, with the token that only the cluster knows."""
    headers = {"authorization": f"Bearer {service.engine_token()}"}
    clients = [
        httpx.Client(base_url=f"http://{replica['address']}", headers=headers, timeout=60)
        for replica in service.replicas()
    ]
    yield clients
    for client in clients:
        client.close()


def running_requests(engine: httpx.Client) -> float:
    """The number of running requests in vLLM's own metrics."""
    metrics = engine.get("/metrics").text
    match = re.search(r"^vllm:num_requests_running\{.*\} (\S+)$", metrics, re.MULTILINE)
    assert match is not None
    return float(match[1])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ENDLESS_FORMS)
async def test_a_client_that_leaves_frees_its_engine(
    service: Service, engines: list[httpx.Client], path: str, stream: bool
) -> None:
    def running() -> float:
        return sum(map(running_requests, engines))

    request = {"model": MODEL, "temperature": 0, "stream": stream, **ENDLESS_FORMS[path]}
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as leaving:
        if stream:
            async with leaving.stream("POST", path, json=request) as response:
                events = (line async for line in response.aiter_lines() if line)
                for _ in range(10):
                    await anext(events)
                assert running() == 1
        else:
            asking = asyncio.create_task(leaving.post(path, json=request))
            await eventually(lambda: running() == 1, within_s=30)
            asking.cancel()
            await asyncio.wait([asking])
    wait_for(lambda: running() == 0, 30, "vLLM aborts the request")
    wait_for(
        lambda: all(replica["requests_in_flight"] == 0 for replica in service.replicas()),
        10,
        "the router releases it",
    )


def test_vllm_logs_its_statistics(http: httpx.Client, service: Service) -> None:
    def logged() -> bool:
        logs = (service.folder / "session_latest/logs").glob("worker-*")
        return any("Avg generation throughput" in log.read_text(errors="replace") for log in logs)

    with http.stream("POST", "/v1/chat/completions", json=ENDLESS) as response:
        next(response.iter_lines())
        wait_for(logged, 60, "vLLM logs its throughput")


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/version", "/docs"])
def test_an_engine_tells_nothing_without_the_token(service: Service, path: str) -> None:
    for replica in service.replicas():
        for headers in ({}, {"authorization": "Bearer EMPTY"}):
            response = httpx.get(f"http://{replica['address']}{path}", headers=headers, timeout=60)
            assert response.status_code == 401
            assert response.content == b""


def test_the_service_listens_on_loopback_only(service: Service) -> None:
    http_ports = {int(service.url.rsplit(":", 1)[1])}
    http_ports |= {int(replica["address"].rsplit(":", 1)[1]) for replica in service.replicas()}
    listening = {
        connection.laddr.port: connection.laddr.ip
        for process in service.processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in http_ports
    }
    assert listening == dict.fromkeys(http_ports, "127.0.0.1")


def test_every_response_names_its_request_and_replica(http: httpx.Client, service: Service) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
    response = http.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert response.headers["x-replica"] in {r["replica"] for r in service.replicas()}
    for path in ("/v1/models", "/health", "/version", "/nowhere"):
        assert http.get(path).headers["x-request-id"]


def test_two_replicas_router_and_ray_fit_in_8_gib(service: Service) -> None:
    # Proportional set size: a page that processes share counts once.
    used = sum(process.memory_full_info().pss for process in service.processes)
    print(f"memory of the whole service: {used / GIB:.2f} GiB")
    assert used < 8 * GIB


def test_replicas_go_on_logging_once_they_have_started(service: Service) -> None:
    """Ray Serve's handlers survive, although vLLM and uvicorn configure logging again."""
    logs = [*(service.folder / "session_latest/logs/serve").glob("replica_*.log")]
    assert len(logs) >= 3
    for log in logs:
        assert "Finished initializing replica" in log.read_text(), log.name

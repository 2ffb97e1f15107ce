"""A replica dies under load: nobody acts, and clients see nothing of it."""

import concurrent.futures
import threading

import httpx
import psutil
import pytest

from tests.e2e.service import ENDLESS, MODEL, Service, wait_for

REQUEST = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count from 1 to 10."}],
    "temperature": 0,
}


@pytest.mark.parametrize("process_name", ["VLLM::EngineCore", "ray::ServeReplica:mistral:Engine"])
def test_kill_9_of_an_engine(service: Service, http: httpx.Client, process_name: str) -> None:
    before = {replica["replica"] for replica in service.replicas()}
    expected = http.post("/v1/chat/completions", json=REQUEST).json()["choices"]
    replaced = threading.Event()
    answers: list[httpx.Response] = []

    def load() -> None:
        with httpx.Client(base_url=service.url, timeout=120) as http:
            while not replaced.is_set():
                answers.append(http.post("/v1/chat/completions", json=REQUEST))

    victim = next(p for p in service.processes if title(p).startswith(process_name))
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load) for _ in range(3)]
        try:
            wait_for(lambda: len(answers) >= 6, 60, "requests are answered")
            victim.kill()
            wait_for(
                lambda: (
                    len(now := {r["replica"] for r in service.replicas()}) == 2 and now != before
                ),
                180,
                "the replica is replaced",
            )
            count = len(answers)
            wait_for(lambda: len(answers) >= count + 6, 60, "requests are answered")
        finally:
            replaced.set()
        for future in loads:
            future.result()
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json()["choices"] == expected for answer in answers)
    survivors = before & {replica["replica"] for replica in service.replicas()}
    assert len(survivors) == 1
    assert {answer.headers["x-replica"] for answer in answers} - before


def test_a_stream_of_an_engine_that_is_killed_cannot_look_complete(
    service: Service, http: httpx.Client
) -> None:
    got = b""
    with http.stream("POST", "/v1/chat/completions", json=ENDLESS) as response:
        pieces = response.iter_bytes()
        for _ in range(10):
            got += next(pieces)
        replica = response.headers["x-replica"]
        engine_core(service, replica).kill()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            for piece in pieces:
                got += piece
    assert got.count(b"data: ") > 10
    assert b'"code": "replica_failed"' in got and b"[DONE]" not in got
    wait_for(
        lambda: len(now := {r["replica"] for r in service.replicas()}) == 2 and replica not in now,
        180,
        "the replica is replaced",
    )


def engine_core(service: Service, replica_id: str) -> psutil.Process:
    """vLLM's process of a replica: a child of the one that listens on its port."""
    (address,) = (r["address"] for r in service.replicas() if r["replica"] == replica_id)
    port = int(address.rsplit(":", 1)[1])
    listening = (
        process
        for process in service.processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    )
    children = next(listening).children(recursive=True)
    return next(child for child in children if title(child).startswith("VLLM::EngineCore"))


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""

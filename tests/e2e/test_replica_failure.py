"""A replica dies under load: nobody acts, and clients see nothing of it."""

import concurrent.futures
import threading

import httpx
import pytest

from tests.e2e.service import MODEL, Service, title, wait_for

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

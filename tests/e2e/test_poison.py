"""Requests that end vLLM's engine, on real vLLM under streams."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.service import MODEL, Service, running, write_config
from tests.e2e.test_grammar_faults import innocent
from tests.faults.deployed import python_path
from tests.support.ending_logits import FLAG, OUT_OF_MEMORY
from tests.support.ports import free_port

STREAMS = 4
SENT = 20
ENDS = ("exits", "hangs", "raises")


def poison(ends: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    return {"model": MODEL, "messages": messages, "vllm_xargs": {"ends": ends}}


def deaths(service: Service) -> Counter[str]:
    """The deaths that the engines' logs tell of, by reason."""
    logs = service.folder.glob("session_latest/logs/worker-*.err")
    return Counter(
        line.split("the engine died (")[1]
        for log in logs
        for line in log.read_text().splitlines()
        if "the engine died (" in line
    )


async def send(url: str) -> dict[str, list[httpx.Response]]:
    """Sends each poison again and again under streams, and returns the answers to them."""
    async with httpx.AsyncClient(base_url=url, timeout=240) as http:
        stopped = asyncio.Event()

        async def innocents(number: int) -> int:
            count = 0
            while not stopped.is_set():
                await innocent(http, number)
                count += 1
            return count

        streams = [asyncio.create_task(innocents(number)) for number in range(STREAMS)]
        answers = {
            ends: [await http.post("/v1/chat/completions", json=poison(ends)) for _ in range(SENT)]
            for ends in ENDS
        }
        stopped.set()
        assert all(await asyncio.gather(*streams))
        return answers


@pytest.mark.full
def test_a_request_that_ends_the_engine_is_refused_and_no_other_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path())
    config = write_config(tmp_path / "config.yaml", free_port(), vllm_args=FLAG)
    with running(config) as service:
        answers = asyncio.run(send(service.url))
        errors = {ends: {one.text for one in of_one} for ends, of_one in answers.items()}
        for of_one in answers.values():
            assert {one.json()["error"]["code"] for one in of_one} == {"request_crashes_engine"}
        assert "CUDA out of memory" in errors["raises"].pop()
        found = deaths(service)
        assert len(ENDS) <= found.total() <= 2 * len(ENDS)
        assert any(OUT_OF_MEMORY in line for line in found)
        listed = httpx.get(f"{service.url}/-/poison").json()["guilty"]
        assert len(listed) == len(ENDS)

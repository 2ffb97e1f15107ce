"""A replica dies under streams: each goes on from the other, as if nothing had happened."""

import concurrent.futures
import threading
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.e2e.service import MODEL, Service, title, wait_for

STREAMS = 8
BODIES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Count from 1 to 100."}]},
    {
        "messages": [{"role": "user", "content": "Repeat the word hello forever."}],
        "max_tokens": 3000,
        "extra_body": {"repetition_detection": False},
    },
]
"""One that is different at each token, and one that lasts."""


def streamed(
    client: openai.OpenAI, body: dict[str, Any], begun: threading.Event | None = None
) -> tuple[str, str | None, Any]:
    """The text of an answer, why it finished, and its usage. Sets `begun` at the first text."""
    text, finish_reason, usage, ids = "", None, None, set()
    stream = client.chat.completions.create(
        model=MODEL,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        **body,
    )
    for event in stream:
        ids.add((event.id, event.created))
        usage = event.usage or usage
        for choice in event.choices:
            text += choice.delta.content or ""
            finish_reason = choice.finish_reason or finish_reason
        if begun is not None and len(text) > 10:
            begun.set()
    assert len(ids) == 1
    return text, finish_reason, usage


def process_of(service: Service, address: str, name: str) -> psutil.Process:
    """The process of that name of the replica that listens on `address`."""
    port = int(address.rpartition(":")[-1])
    for process in service.processes:
        if not title(process).startswith("ray::ServeReplica:mistral:Engine"):
            continue
        if port in [c.laddr.port for c in process.net_connections() if c.status == "LISTEN"]:
            candidates = [process, *process.children(recursive=True)]
            return next(p for p in candidates if title(p).startswith(name))
    raise AssertionError(f"nobody listens on {address}")


@pytest.mark.parametrize("process_name", ["VLLM::EngineCore", "ray::ServeReplica:mistral:Engine"])
def test_kill_9_of_an_engine_under_streams(
    service: Service, http: httpx.Client, client: openai.OpenAI, process_name: str
) -> None:
    wait_for(lambda: len(service.replicas()) == 2, 180, "both replicas are up")
    before = {replica["replica"] for replica in service.replicas()}
    undisturbed = [streamed(client, body) for body in BODIES]
    begun = [threading.Event() for _ in range(STREAMS)]
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        answers = [pool.submit(streamed, client, BODIES[n < 2], begun[n]) for n in range(STREAMS)]
        for event in begun:
            assert event.wait(60)
        (loads,) = http.get("/-/replicas").json().values()
        busy = max(loads, key=lambda replica: int(replica["requests_in_flight"]))
        assert busy["requests_in_flight"]
        victim = process_of(service, busy["address"], process_name)
        victim.kill()
        psutil.wait_procs([victim], timeout=30)
        got = [answer.result(timeout=120) for answer in answers]
    for n, answer in enumerate(got):
        assert answer == undisturbed[n < 2]
    wait_for(
        lambda: (
            len(now := {replica["replica"] for replica in service.replicas()}) == 2
            and now != before
        ),
        180,
        "the replica is replaced",
    )

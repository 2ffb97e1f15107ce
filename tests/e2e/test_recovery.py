"""A replica dies under streams: each goes on from the other, as if nothing had happened."""

import concurrent.futures
import threading
from typing import Any

import openai
import psutil

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


def busiest_engine(service: Service) -> psutil.Process:
    """The vLLM process of the replica that has the most requests now."""
    replica = max(service.replicas(), key=lambda replica: replica["requests_in_flight"])
    assert replica["requests_in_flight"] > 0
    port = int(replica["address"].rsplit(":", 1)[1])
    actor = next(p for p in service.processes if port in listening_ports(p))
    return next(p for p in actor.children(True) if title(p).startswith("VLLM::EngineCore"))


def listening_ports(process: psutil.Process) -> set[int]:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:
        return set()
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


def test_kill_9_of_an_engine_under_streams(service: Service, client: openai.OpenAI) -> None:
    wait_for(lambda: len(service.replicas()) == 2, 180, "both replicas are up")
    before = {replica["replica"] for replica in service.replicas()}
    undisturbed = [streamed(client, body) for body in BODIES]
    begun = [threading.Event() for _ in range(STREAMS)]
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        answers = [
            pool.submit(streamed, client, BODIES[n // 2 % 2], begun[n]) for n in range(STREAMS)
        ]
        for event in begun:
            assert event.wait(60)
        victim = busiest_engine(service)
        victim.kill()
        psutil.wait_procs([victim], timeout=30)
        got = [answer.result(timeout=120) for answer in answers]
    for n, answer in enumerate(got):
        assert answer == undisturbed[n // 2 % 2]
    continued = [line for line in service.request_log() if line["continued"]]
    assert continued and all(line["retries"] >= line["continued"] for line in continued)
    wait_for(
        lambda: (
            len(now := {replica["replica"] for replica in service.replicas()}) == 2
            and now != before
        ),
        180,
        "the replica is replaced",
    )

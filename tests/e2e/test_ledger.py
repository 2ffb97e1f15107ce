"""The usage ledger of two routers against the counters of real vLLM."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.e2e.batches import chat, write
from tests.e2e.killed_engine import kill_an_engine_under_load
from tests.e2e.service import ENDLESS, MODEL, Service, mistral_serve, running, write_config
from tests.support.ports import free_port
from tests.support.waiting import wait_for

CHAT = "/v1/chat/completions"
COUNT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count from 1 to 20."}],
    "temperature": 0,
}
_COUNTER = re.compile(r"^vllm:(prompt|generation)_tokens_total\{[^}]*\} (\S+)$", re.MULTILINE)
_PERIOD_S = 0.2
_SETTLED_S = 60
_LINES = 5
"""Lines of the batch."""


@dataclass
class Counters:
    """The latest counters of all engines that are or were up, by their addresses. An engine that
    died shows them until its replica ends, seconds later."""

    url: str
    by_address: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Prompt tokens and generated tokens."""
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        with httpx.Client(timeout=60) as http:
            while not self.over.wait(_PERIOD_S):
                self.read(http)

    def read(self, http: httpx.Client) -> None:
        status = http.get(f"{self.url}/-/status").json()
        up = {replica["address"] for replica in status["models"][MODEL]["replicas"]}
        for address in up | self.by_address.keys():
            try:
                text = http.get(f"http://{address}/metrics").text
            except httpx.HTTPError:
                continue
            found = {name: int(float(value)) for name, value in _COUNTER.findall(text)}
            self.by_address[address] = found["prompt"], found["generation"]

    def without(self, warm_up: tuple[int, int]) -> tuple[int, int]:
        """Returns the sums of all engines without the request that each sends itself first."""
        engines = list(self.by_address.values())
        prompt, generated = map(sum, zip(*engines, strict=True))
        return prompt - len(engines) * warm_up[0], generated - len(engines) * warm_up[1]


@contextlib.contextmanager
def watched(service: Service) -> Iterator[Counters]:
    counters = Counters(service.url)
    thread = threading.Thread(target=counters.watch)
    thread.start()
    try:
        yield counters
    finally:
        counters.over.set()
        thread.join()


def usage(service: Service) -> dict[str, Any]:
    """The usage of all requests as the endpoint shows it: a report with one row."""
    report: dict[str, Any] = httpx.get(f"{service.url}/-/usage?by=", timeout=60).json()
    return report


def assert_agree(service: Service, counters: Counters, warm_up: tuple[int, int]) -> dict[str, Any]:
    """Returns the report once its sums are those of the engines."""

    def sums() -> tuple[tuple[int, int], tuple[int, int]]:
        row = usage(service)["rows"][0]
        read = row["input_tokens"] + row["repeated_input_tokens"]
        generated = row["output_tokens"] + row["wasted_output_tokens"]
        return (read, generated), counters.without(warm_up)

    with contextlib.suppress(TimeoutError):
        wait_for(lambda: len({*sums()}) == 1, _SETTLED_S)
    in_ledger, of_engines = sums()
    assert in_ledger == of_engines
    return usage(service)


def ask_in_all_ways(http: httpx.Client) -> int:
    """Returns how many requests were sent to an engine."""
    text = COUNT["messages"][0]["content"]
    paths: list[tuple[str, dict[str, Any]]] = [
        (CHAT, COUNT),
        (CHAT, {**COUNT, "n": 3, "temperature": 1}),
        (CHAT, {**COUNT, "stop": "7"}),
        (CHAT, {**COUNT, "max_tokens": 1}),
        (CHAT, {**COUNT, "response_format": {"type": "json_object"}, "max_tokens": 20}),
        ("/v1/completions", {"model": MODEL, "prompt": [text, "Hello"], "max_tokens": 9}),
        ("/v1/responses", {"model": MODEL, "input": text, "max_output_tokens": 9}),
        ("/v1/messages", {"model": MODEL, "messages": COUNT["messages"], "max_tokens": 9}),
    ]
    for path, body in paths:
        for stream in (False, True):
            answer = http.post(path, json={**body, "stream": stream})
            assert answer.status_code == 200, answer.text
    for number in range(8):
        with http.stream("POST", CHAT, json={**ENDLESS, "max_tokens": 3000}) as response:
            pieces = response.iter_raw()
            for _ in range(number):
                next(pieces)
    with pytest.raises(httpx.ReadTimeout):
        http.post(CHAT, json={**ENDLESS, "stream": False, "max_tokens": 3000}, timeout=1)
    # The engine refuses the first, the router the second.
    assert http.post(CHAT, json={**COUNT, "temperature": -7}).status_code == 400
    assert http.post(CHAT, json={**COUNT, "model": "unknown"}).status_code == 404
    return 2 * len(paths) + 8 + 1 + 1


def run_batch(client: openai.OpenAI, folder: Path, lines: int) -> None:
    texts = (f"Count from 1 to {number}." for number in range(lines))
    source = write(folder / "lines.jsonl", [chat(text, text, max_tokens=30) for text in texts])
    file = client.files.create(file=source, purpose="batch")
    id = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id
    wait_for(lambda: client.batches.retrieve(id).status == "completed", 120, "the batch is done")


@pytest.mark.full
def test_the_sums_are_what_the_engines_have_counted(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", free_port())
    document = yaml.safe_load(config.read_text())
    document["applications"][0]["args"]["router"]["replicas"] = 2
    config.write_text(yaml.safe_dump(document))
    with running(config) as service, watched(service) as counters:
        with (
            httpx.Client(base_url=service.url, timeout=120) as http,
            openai.OpenAI(api_key="EMPTY", base_url=f"{service.url}/v1") as client,
        ):
            hello = [{"role": "user", "content": "Hello"}]
            prompt = http.post("/tokenize", json={"model": MODEL, "messages": hello}).json()
            warm_up = prompt["count"], 1
            requests = ask_in_all_ways(http)
            run_batch(client, tmp_path, _LINES)
            (row,) = assert_agree(service, counters, warm_up)["rows"]
            assert row["requests"] == requests + _LINES

            kill_an_engine_under_load(service)
            report = assert_agree(service, counters, warm_up)
        assert len(counters.by_address) == 3
        assert (report["running"], report["gaps"], report["damaged_lines"]) == (0, [], 0)
        (row,) = report["rows"]
        assert (row["incomplete"], row["estimated"]) == (0, 0)

        (shown,) = json.loads(
            mistral_serve("usage", "--url", service.url, "--format", "json").stdout
        )["rows"]
        assert shown == row | {"tenant": "default", "model": MODEL}
        assert "default" in mistral_serve("usage", "--url", service.url).stdout

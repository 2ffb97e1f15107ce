"""Requests that end vLLM's engine, on two routers and two engines of real vLLM under streams."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.killed_engine import Stream
from tests.e2e.service import MODEL, Service, running, write_config
from tests.faults.deployed import python_path
from tests.support.ending_logits import FLAG, OUT_OF_MEMORY
from tests.support.ports import free_port
from tests.support.waiting import wait_for

STREAMS = 60
TOKENS = 200
"""Length of each innocent stream."""
SENT = 20
"""How often each poison is sent."""
ALONE = ("raises", "exits", "hangs", "raises", "exits")
"""How the engines end that have one request without a token."""
AT_ONCE = ("raises", "exits", "hangs", "runs out", "runs out")
"""How those end that have many, as poisons and streams begin at the same time."""
_START_S = 240
_KNOWN_S = 1.0
"""The longest time between the verdict and its arrival at the other router."""


def poison(number: int, ends: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Hello {number}"}]
    return {"model": MODEL, "messages": messages, "vllm_xargs": {"ends": ends}}


def config(folder: Path) -> Path:
    path = write_config(folder / "config.yaml", free_port(), vllm_args=FLAG)
    document = yaml.safe_load(path.read_text())
    router = document["applications"][0]["args"]["router"]
    router |= {"replicas": 2, "startup_s": _START_S, "admission": {"max_wait_s": _START_S}}
    path.write_text(yaml.safe_dump(document))
    return path


@dataclass
class Fleet:
    """The service, and its routers apart from each other."""

    service: Service
    http: httpx.AsyncClient
    routers: list[str]
    """Their URLs."""

    def deaths(self) -> Counter[str]:
        """The deaths that the engines' logs tell of, by reason."""
        logs = self.service.folder.glob("session_latest/logs/worker-*.err")
        return Counter(
            line.split("the engine died (")[1]
            for log in logs
            for line in log.read_text().splitlines()
            if "the engine died (" in line
        )

    async def guilty(self) -> list[dict[str, float]]:
        """Returns how long ago each router's guilty requests were judged, by their digests."""
        answers = await asyncio.gather(*(self.http.get(f"{url}/-/poison") for url in self.routers))
        return [
            {one["digest"]: one["judged_s_ago"] for one in answer.json()["guilty"]}
            for answer in answers
        ]

    def begin_streams(self) -> tuple[list[Stream], list["asyncio.Task[Stream]"]]:
        streams = [Stream() for _ in range(STREAMS)]
        tasks = [
            asyncio.create_task(stream.receive(self.http, self.innocent(number)))
            for number, stream in enumerate(streams)
        ]
        return streams, tasks

    def innocent(self, number: int) -> dict[str, Any]:
        text = f"Tell me of the number {number}."
        messages = [{"role": "user", "content": text}]
        return {"messages": messages, "max_tokens": TOKENS, "ignore_eos": True}

    async def send(self, body: dict[str, Any], first: int, last: int) -> list[httpx.Response]:
        """Sends a poison again and again at once, to one router and the other in turns."""
        urls = (self.routers[number % 2] for number in range(first, last))
        path = "/v1/chat/completions"
        return await asyncio.gather(*(self.http.post(url + path, json=body) for url in urls))


async def one_poison(fleet: Fleet, number: int, ends: str, alone: bool) -> int:
    """Sends it while streams run, or begin. Returns of how many deaths it is the cause."""
    before, body = fleet.deaths(), poison(number, ends)
    known = set((await fleet.guilty())[0])
    streams, tasks = fleet.begin_streams()
    answers: list[httpx.Response] = []
    if alone:
        await asyncio.gather(*(stream.begun.wait() for stream in streams))
        answers = await fleet.send(body, 0, 1)
    answers += await fleet.send(body, len(answers), SENT)
    one, other = await fleet.guilty()
    (digest,) = one.keys() - known
    assert other.keys() == one.keys()
    assert abs(one[digest] - other[digest]) < _KNOWN_S
    for answer in answers:
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "request_crashes_engine"
        assert (OUT_OF_MEMORY[:18] in answer.text) == (ends == "runs out")
    for stream in await asyncio.gather(*tasks):
        _, finish_reason, usage = stream.answer()
        assert (finish_reason, usage["completion_tokens"]) == ("length", TOKENS)
    return (fleet.deaths() - before).total()


@pytest.mark.full
def test_a_request_that_ends_the_engine_is_refused_and_no_other_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path())

    async def send_all(service: Service) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.url, timeout=None, limits=limits) as http:
            targets = (await http.get("/-/targets")).json()
            routers = [
                f"http://{target['targets'][0]}"
                for target in targets
                if target["labels"]["component"] == "router"
            ]
            fleet = Fleet(service, http, routers)
            assert len(fleet.routers) == 2
            for number, ends in enumerate(ALONE + AT_ONCE):
                alone, began_s = number < len(ALONE), time.monotonic()
                wait_for(lambda: len(service.replicas()) == 2, _START_S, "both engines are up")
                deaths = await one_poison(fleet, number, ends, alone)
                print(f"{ends}: {deaths} deaths, {time.monotonic() - began_s:.0f} s")
                assert deaths == 1 if alone else 1 <= deaths <= 2
            found = fleet.deaths()
            print(found)
            assert any(OUT_OF_MEMORY in line for line in found)
            assert all(len(guilty) == len(ALONE + AT_ONCE) for guilty in await fleet.guilty())

    with running(config(tmp_path)) as service:
        asyncio.run(send_all(service))

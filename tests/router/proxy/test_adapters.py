"""Requests for adapters: by their names, on replicas that have them."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from serving.adapters.canary import Tally
from serving.router.telemetry.model_metrics import MAX_ADAPTERS
from tests.router.proxy.with_adapters import (
    WithAdapters,
    ask,
    declare,
    digest_of,
    router_with,
    served,
)
from tests.support.http_server import Request, json_response
from tests.support.live_router import CHAT, MODEL
from tests.support.waiting import eventually


async def test_an_adapter_is_loaded_once_and_answers(folder: Path) -> None:
    declare(folder, "one")
    declare(folder, "two")
    async with router_with(folder, WithAdapters) as router:
        for name in ("one", "two", "one"):
            answer = await ask(router, name)
            assert answer.json() == {"answered_by": digest_of(router, name)}
        assert (await ask(router, MODEL)).json() == {"answered_by": ""}
        (engine,) = router.engines
        assert engine.loads == [digest_of(router, name) for name in ("one", "two")]  # type: ignore[attr-defined]
        lines = [json.loads(line) for line in router.lines]
        assert [line["adapter"] for line in lines] == ["one", "two", "one", None]
        assert {line["model"] for line in lines} == {MODEL}


async def test_many_requests_for_an_adapter_wait_for_one_load(folder: Path) -> None:
    declare(folder, "one")
    async with router_with(folder, WithAdapters) as router:
        answers = await asyncio.gather(*(ask(router, "one") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(router.engines[0].loads) == 1  # type: ignore[attr-defined]


async def test_a_client_cannot_choose_an_adapter_by_a_header(folder: Path) -> None:
    declare(folder, "one")
    async with router_with(folder, WithAdapters) as router:
        answer = await ask(router, MODEL, **{"x-adapter": digest_of(router, "one")})
        assert answer.json() == {"answered_by": ""}


async def test_an_adapter_that_the_engine_has_dropped_is_loaded_again(folder: Path) -> None:
    declare(folder, "one")
    async with router_with(folder, WithAdapters) as router:
        await ask(router, "one")
        router.engines[0].resident.clear()  # type: ignore[attr-defined]
        assert (await ask(router, "one")).json() == {"answered_by": digest_of(router, "one")}


async def test_a_request_moves_on_from_a_replica_that_does_not_load_its_adapter(
    folder: Path,
) -> None:
    class DoesNotLoad(WithAdapters):
        refuses = "too little memory"

    declare(folder, "one")
    async with router_with(folder, DoesNotLoad, WithAdapters) as router:
        for _ in range(3):
            assert (await ask(router, "one")).status_code == 200
        assert not any(replica.health.ejected for replica in served(router).replicas)


async def test_an_adapter_that_no_replica_loads_is_a_named_error_and_disturbs_nothing(
    folder: Path,
) -> None:
    class DoesNotLoad(WithAdapters):
        refuses = "too little memory in /a/folder"

    declare(folder, "one")
    async with router_with(folder, DoesNotLoad) as router:
        answer = await ask(router, "one")
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "adapter_not_loaded" and "/a/folder" not in error["message"]
        assert (await ask(router, MODEL)).status_code == 200


class Small(WithAdapters):
    """Has room for three adapters, drops the others, and answers after a while."""

    running: Counter[str]
    most_running = 0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.running = Counter()

    def receive(self, request: Request) -> None:
        super().receive(request)
        idle = [digest for digest in self.resident if not self.running[digest]]
        for digest in idle[: max(len(self.resident) - 3, 0)]:
            self.resident.remove(digest)

    def respond(self, request: dict[str, Any]) -> None:
        digest = (self.latest.header(b"x-adapter") or b"").decode()
        if digest not in self.resident:
            super().respond(request)
            return
        self.running[digest] += 1
        at_once = len(+self.running)
        type(self).most_running = max(self.most_running, at_once)
        asyncio.get_running_loop().call_later(0.005, self._answer, digest)

    def _answer(self, digest: str) -> None:
        self.running[digest] -= 1
        self.transport.write(json_response({"answered_by": digest}))


async def test_with_many_adapters_on_few_slots_every_answer_is_of_its_adapter(
    folder: Path,
) -> None:
    names = [f"adapter-{number}" for number in range(12)]
    for name in names:
        declare(folder, name)
    async with router_with(folder, Small, Small, max_loras=2) as router:
        dice = random.Random(1)
        asked = dice.choices(names, [1 / (rank + 1) for rank in range(len(names))], k=300)
        clients = asyncio.Semaphore(30)

        async def answer(name: str) -> Any:
            async with clients:
                return await ask(router, name)

        answers = await asyncio.gather(*map(answer, asked))
        assert {one.status_code for one in answers} == {200}
        expected = [digest_of(router, name) for name in asked]
        assert [one.json()["answered_by"] for one in answers] == expected
        assert all(0 < engine.most_running <= 2 for engine in router.engines)  # type: ignore[attr-defined]


async def test_metrics_count_adapters_with_a_bound(folder: Path) -> None:
    declare(folder, "one")
    declare(folder, "two")
    (folder / "bad.yaml").write_text("name: bad\nsource: /nowhere\n")
    async with router_with(folder, WithAdapters) as router:
        served(router).metrics.adapters.update(
            {f"old-{n}": {"stable": Tally()} for n in range(MAX_ADAPTERS - 1)}
        )
        for name in ("one", "two", "one"):
            await ask(router, name)
        await eventually(lambda: len(router.lines) == 3)
        lines = (await router.http.get("/metrics")).text.splitlines()
        model, stable = f'model="{MODEL}"', 'version="stable"'
        for line in (
            f'mistral_serve_adapter_requests_total{{adapter="one",{model},{stable}}} 2.0',
            f'mistral_serve_adapter_requests_total{{adapter="(other)",{model},{stable}}} 1.0',
            f"mistral_serve_served_adapters{{{model}}} 2.0",
            f"mistral_serve_refused_adapters{{{model}}} 1.0",
        ):
            assert line in lines
        requests = [line for line in lines if line.startswith("mistral_serve_adapter_requests_t")]
        assert len(requests) == MAX_ADAPTERS + 1


async def test_prefixes_are_apart_by_adapter(folder: Path) -> None:
    declare(folder, "one")
    async with router_with(folder, WithAdapters) as router:
        fleet = served(router).dispatcher.fleet
        text = "A long question. " * 200

        async def blocks_after(name: str) -> int:
            fields = {"model": name, "messages": [{"role": "user", "content": text}]}
            assert (await router.http.post(CHAT, json=fields)).status_code == 200
            return len(fleet.cached_blocks("replica-0"))

        first = await blocks_after(MODEL)
        assert first and await blocks_after(MODEL) == first
        assert await blocks_after("one") == 2 * first
        assert await blocks_after("one") == 2 * first

"""Requests for adapters: by their names, on replicas that have them, for the tenants that may."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.adapters import declared
from serving.adapters.config import AdapterConfig
from serving.catalogue import CatalogueEntry
from serving.config import ModelConfig, TenantConfig
from serving.router.replicas.declared_adapters import AdapterSettings
from serving.router.replicas.model import Model
from serving.router.replicas.served_model import ServedModel
from serving.router.telemetry.model_metrics import MAX_ADAPTERS
from tests.support.engines import Engine
from tests.support.http_server import Request, json_response
from tests.support.keys import key_record, keys_of
from tests.support.live_router import CHAT, MESSAGES, MODEL, RULES, LiveRouter, running_router
from tests.support.tiny_adapters import zero_adapter
from tests.support.waiting import eventually

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nx-engine-unavailable: no-adapter\r\n"


class WithAdapters(Engine):
    """Loads what it is told to, and answers with the digest of the adapter that is asked for."""

    resident: list[str]
    loads: list[str]
    refuses: str | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.resident, cls.loads = [], []

    def receive(self, request: Request) -> None:
        if request.target != b"/adapters":
            super().receive(request)
        elif request.body and self.refuses is not None:
            body = json.dumps({"reason": self.refuses}).encode()
            head = b"HTTP/1.1 422 Unprocessable\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)
        else:
            if request.body:
                digest = json.loads(request.body)["digest"]
                self.loads.append(digest)
                self.resident.append(digest)
            self.transport.write(json_response({"resident": self.resident, "load_ms": 100.0}))

    def respond(self, request: dict[str, Any]) -> None:
        digest = (self.latest.header(b"x-adapter") or b"").decode()
        if digest and digest not in self.resident:
            self.transport.write(UNAVAILABLE + b"content-length: 0\r\n\r\n")
        else:
            self.transport.write(json_response({"answered_by": digest}))


def entry(**settings: Any) -> CatalogueEntry:
    model = ModelConfig(model="tiny-mistral-small-3.2", adapters_folder="/unused", **settings)
    return model.entry


@contextlib.asynccontextmanager
async def router_with(
    folder: Path, *engines: type[Engine], max_loras: int = 8, **options: Any
) -> AsyncIterator[LiveRouter]:
    """Runs a router that follows the adapters declared in the folder."""
    settings = AdapterSettings(entry(lora={"max_loras": max_loras}), (), str(folder))
    model = Model(MODEL, (), RULES, adapters=settings)
    async with running_router(*engines, models=[model], **options) as router:
        following = asyncio.create_task(served(router).follow_adapters())
        adapters = served(router).adapters
        assert adapters is not None
        adapters.look()
        try:
            yield router
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


def served(router: LiveRouter) -> ServedModel:
    return router.directory.models[MODEL]


def declare(folder: Path, name: str, **fields: Any) -> None:
    """Makes an adapter of its own content and declares it."""
    source = folder.parent / "sources" / name
    zero_adapter(source, trained_for=name)
    declared.write(folder, AdapterConfig(name=name, source=str(source), **fields))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "adapters"
    path.mkdir()
    yield path


async def ask(router: LiveRouter, name: str, **headers: str) -> Any:
    fields = {"model": name, "messages": MESSAGES}
    return await router.http.post(CHAT, json=fields, headers=headers)


def digest_of(router: LiveRouter, name: str) -> str:
    adapters = served(router).adapters
    assert adapters is not None
    return adapters.by_name[name].version.digest


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


async def test_models_are_listed_with_their_parents_and_come_and_go(folder: Path) -> None:
    async with router_with(folder, WithAdapters) as router:
        assert (await ask(router, "one")).status_code == 404
        declare(folder, "one")

        async def listed() -> dict[str, str | None]:
            models = (await router.http.get("/v1/models")).json()["data"]
            return {model["id"]: model["parent"] for model in models}

        adapters = served(router).adapters
        assert adapters is not None
        await eventually(lambda: "one" in adapters.by_name)
        assert await listed() == {MODEL: None, "one": MODEL}
        card = (await router.http.get("/v1/models/one")).json()
        assert card["root"] == digest_of(router, "one")
        assert (await ask(router, "one")).status_code == 200
        declared.path_of(folder, "one").unlink()
        await eventually(lambda: "one" not in adapters.by_name)
        assert await listed() == {MODEL: None}
        missing = await ask(router, "one")
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"


async def test_new_weights_of_a_name_are_another_adapter_to_engines(folder: Path) -> None:
    declare(folder, "one")
    async with router_with(folder, WithAdapters) as router:
        before = digest_of(router, "one")
        await ask(router, "one")
        zero_adapter(folder.parent / "sources" / "one", rank=4)
        await eventually(lambda: digest_of(router, "one") != before)
        answer = await ask(router, "one")
        assert answer.json() == {"answered_by": digest_of(router, "one")} != {"answered_by": before}


async def test_a_bad_adapter_is_refused_and_the_one_before_it_stays(folder: Path) -> None:
    declare(folder, "one")
    declare(folder, "two")
    async with router_with(folder, WithAdapters) as router:
        adapters = served(router).adapters
        assert adapters is not None
        before = digest_of(router, "one")
        zero_adapter(folder.parent / "sources" / "one", rank=64)
        (folder / "three.yaml").write_text("name: three\nsource: nowhere\n")
        (folder / "four.yaml").write_text("{")
        await eventually(lambda: len(adapters.refused) == 3)
        assert adapters.refused["one"].startswith("rank above the limit")
        assert "allowed is an absolute path" in adapters.refused["three.yaml"]
        assert "not YAML" in adapters.refused["four.yaml"]
        assert (await ask(router, "one")).json() == {"answered_by": before}
        assert (await ask(router, "two")).status_code == 200


async def test_adapters_stay_while_their_folder_is_away(folder: Path) -> None:
    declare(folder, "one")
    async with router_with(folder, WithAdapters) as router:
        adapters = served(router).adapters
        assert adapters is not None
        await asyncio.to_thread(folder.rename, folder.with_name("elsewhere"))
        await eventually(lambda: "adapters_folder" in adapters.refused)
        assert (await ask(router, "one")).status_code == 200


async def test_an_adapter_of_other_tenants_does_not_exist(folder: Path, tmp_path: Path) -> None:
    declare(folder, "of-a", tenants=("a",))
    declare(folder, "of-all")
    keys = {tenant: f"the-key-of-{tenant}" for tenant in ("a", "b", "c")}
    records = [
        key_record(key, tenant, models=("of-all",) if tenant == "c" else None)
        for tenant, key in keys.items()
    ]
    async with router_with(
        folder,
        WithAdapters,
        tenants=[TenantConfig(name=name) for name in ("a", "b", "c")],
        authentication=keys_of(tmp_path, *records),
    ) as router:
        statuses = {
            (tenant, name): (
                await ask(router, name, authorization=f"Bearer {keys[tenant]}")
            ).status_code
            for tenant in keys
            for name in ("of-a", "of-all", MODEL)
        }
        assert statuses == {
            **{("a", name): 200 for name in ("of-a", "of-all", MODEL)},
            **{("b", "of-a"): 404, ("b", "of-all"): 200, ("b", MODEL): 200},
            **{("c", "of-a"): 404, ("c", "of-all"): 200, ("c", MODEL): 403},
        }
        models = await router.http.get(
            "/v1/models", headers={"authorization": f"Bearer {keys['b']}"}
        )
        assert [model["id"] for model in models.json()["data"]] == [MODEL, "of-all"]


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
        served(router).metrics.adapters.update({f"old-{n}": 0 for n in range(MAX_ADAPTERS - 1)})
        for name in ("one", "two", "one"):
            await ask(router, name)
        await eventually(lambda: len(router.lines) == 3)
        lines = (await router.http.get("/metrics")).text.splitlines()
        model = f'model="{MODEL}"'
        for line in (
            f'mistral_serve_adapter_requests_total{{adapter="one",{model}}} 2.0',
            f'mistral_serve_adapter_requests_total{{adapter="(other)",{model}}} 1.0',
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

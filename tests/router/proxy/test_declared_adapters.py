"""Adapters as they are declared: listed, named, versioned, refused, and shown to their tenants."""

import asyncio
import json
from pathlib import Path
from typing import Any

from serving.adapters import declared
from serving.dispatch import TenantLimits
from serving.tenants import Tenant
from tests.router.proxy.with_adapters import (
    WithAdapters,
    adapters_of,
    ask,
    declare,
    digest_of,
    router_with,
)
from tests.support.keys import key_record, keys_of
from tests.support.live_router import MODEL
from tests.support.tiny_adapters import zero_adapter
from tests.support.waiting import eventually


async def test_models_are_listed_with_their_parents_and_come_and_go(folder: Path) -> None:
    async with router_with(folder, WithAdapters) as router:
        assert (await ask(router, "one")).status_code == 404
        declare(folder, "one")

        async def listed() -> dict[str, str | None]:
            models = (await router.http.get("/v1/models")).json()["data"]
            return {model["id"]: model["parent"] for model in models}

        adapters = adapters_of(router)
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


async def test_all_tenants_share_the_limits_of_an_adapter(folder: Path, tmp_path: Path) -> None:
    declare(folder, "one", limits=TenantLimits(requests_per_minute=2))
    declare(folder, "two")
    first_key, second_key = "sk-first", "sk-second"
    keys = keys_of(tmp_path, key_record(first_key, "first"), key_record(second_key, "second"))
    tenants = [
        Tenant(name="first", limits=TenantLimits(requests_per_minute=3)),
        Tenant(name="second"),
    ]
    async with router_with(folder, WithAdapters, tenants=tenants, authentication=keys) as router:

        async def sent(model: str, key: str) -> Any:
            return await ask(router, model, authorization=f"Bearer {key}")

        first, second = await sent("one", first_key), await sent("one", second_key)
        assert [first.status_code, second.status_code] == [200, 200]
        assert first.headers["x-ratelimit-limit-requests"] == "3"
        assert second.headers["x-ratelimit-remaining-requests"] == "0"
        for key in (first_key, second_key):
            refused = await sent("one", key)
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
            error = refused.json()["error"]
            assert error["code"] == "rate_limit_exceeded" and "the model 'one'" in error["message"]
        others = [await sent("two", first_key) for _ in range(3)]
        # What the adapter's limit refused does not count against the tenant's.
        assert [one.status_code for one in others] == [200, 200, 429]


async def test_an_alias_is_another_name_of_the_same_adapter(folder: Path) -> None:
    declare(folder, "one", aliases=("uno", "eins"))
    declare(folder, "two", aliases=("uno",))
    async with router_with(folder, WithAdapters) as router:
        adapters = adapters_of(router)
        for name in ("one", "uno", "eins"):
            answer = await ask(router, name)
            assert answer.json() == {"answered_by": digest_of(router, "one")}
        assert {json.loads(line)["adapter"] for line in router.lines} == {"one"}
        card = (await router.http.get("/v1/models/uno")).json()
        assert (card["id"], card["aliases"]) == ("one", ["uno", "eins"])
        assert adapters.refused == {"two.yaml": "there is another adapter of the name uno"}
        assert (await ask(router, "two")).status_code == 404


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
        adapters = adapters_of(router)
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
        adapters = adapters_of(router)
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
        tenants=[Tenant(name=name) for name in ("a", "b", "c")],
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

"""Adapters of an engine, over a stand-in for vLLM's engine."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors import safe_open
from vllm.lora.request import LoRARequest

from serving.adapters.adapter import Version, checked
from serving.adapters.base import base_of
from serving.adapters.config import AdapterConfig
from serving.adapters.files import AdapterError
from serving.adapters.store import AdapterStore
from serving.config import ModelConfig
from serving.engine.adapters import Adapters
from serving.engine.vllm.front_end import FrontEnd
from serving.mistral import ModelRules
from tests.engine.asking import BODIES, CHAT, NAMES
from tests.engine.fake_llm import WAITS, FakeLlm, text
from tests.support.reading import RULES
from tests.support.tiny_adapters import zero_adapter
from tests.support.waiting import eventually

BASE = base_of(ModelConfig(model="tiny-mistral-small-3.2", adapters_folder="/unused").entry)


def version(folder: Path, **options: Any) -> Version:
    zero_adapter(folder, **options)
    return checked(AdapterConfig(name=folder.name, source=str(folder)), BASE)


@asynccontextmanager
async def engine(
    llm: FakeLlm, folder: Path, host_cache_gib: float = 1.0, rules: ModelRules = RULES
) -> AsyncIterator[httpx.AsyncClient]:
    store = AdapterStore(folder, BASE.network)
    adapters = Adapters(llm, LoRARequest, store, host_cache_gib, NAMES[0])
    app = FrontEnd(llm, NAMES, rules, None, adapters=adapters)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        yield client
    await app.close()
    store.close()


async def load(client: httpx.AsyncClient, wanted: Version) -> httpx.Response:
    return await client.post("/adapters", json=_fields(wanted))


def _fields(wanted: Version) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in wanted.__struct_fields__}


@pytest.mark.parametrize("path", BODIES)
async def test_a_request_runs_on_its_adapter_and_is_answered_in_its_name(
    path: str, tmp_path: Path
) -> None:
    llm = FakeLlm(text("One"), text("Two"))
    wanted = version(tmp_path / "a")
    async with engine(llm, tmp_path / "copies") as client:
        response = await load(client, wanted)
        assert response.json()["resident"] == [wanted.digest]
        body = BODIES[path] | {"model": "my-adapter"}
        answer = await client.post(path, json=body, headers={"x-adapter": wanted.digest})
        assert answer.status_code == 200
        assert answer.json()["model"] == "my-adapter"
        assert llm.calls[0].lora_request.lora_name == wanted.digest
        plain = await client.post(path, json=BODIES[path])
        assert plain.json()["model"] == NAMES[0]
        assert llm.calls[1].lora_request is None


async def test_a_public_prompt_is_not_shared_with_what_an_adapter_makes_of_it(
    tmp_path: Path,
) -> None:
    llm = FakeLlm()
    wanted = version(tmp_path / "a")
    rules = replace(RULES, public_system_prompts=("You are {name}.",))
    messages = [{"role": "system", "content": "You are {name}."}, {"role": "user", "content": "Hi"}]
    async with engine(llm, tmp_path / "copies", rules=rules) as client:
        await load(client, wanted)
        salt = {"x-cache-salt": "of-a-tenant"}
        await client.post(CHAT, json={"messages": messages}, headers=salt)
        headers = salt | {"x-adapter": wanted.digest}
        await client.post(CHAT, json={"messages": messages}, headers=headers)
    by_model, by_adapter = (call.prompt["cache_salt"] for call in llm.calls)
    assert by_model.endswith(":of-a-tenant") and not by_model.startswith("0:")
    assert by_adapter == "0:of-a-tenant"


async def test_a_request_for_an_adapter_that_is_not_loaded_never_reaches_vllm(
    tmp_path: Path,
) -> None:
    llm = FakeLlm()
    async with engine(llm, tmp_path / "copies") as client:
        answer = await client.post(CHAT, json=BODIES[CHAT], headers={"x-adapter": "unknown"})
    assert answer.status_code == 503
    assert answer.headers["x-engine-unavailable"] == "no-adapter"
    assert not llm.calls


async def test_an_adapters_files_may_go_away_once_it_is_loaded(tmp_path: Path) -> None:
    llm = FakeLlm()
    wanted = version(tmp_path / "a")
    async with engine(llm, tmp_path / "copies") as client:
        await load(client, wanted)
        for file in (tmp_path / "a").iterdir():
            file.unlink()
        (added,) = llm.adapters.values()
        copy = Path(added.lora_path)
        assert copy.name == wanted.digest
        with safe_open(copy / "adapter_model.safetensors", "pt") as tensors:
            assert set(tensors.keys()) == {
                f"base_model.model.language_model.model.layers.0.self_attn.o_proj.lora_{side}.weight"
                for side in "AB"
            }
        assert json.loads((copy / "adapter_config.json").read_text())["r"] == 8
    assert not list((tmp_path / "copies").iterdir())


async def test_files_that_changed_since_they_were_checked_are_not_loaded(tmp_path: Path) -> None:
    llm = FakeLlm()
    wanted = version(tmp_path / "a")
    zero_adapter(tmp_path / "a", rank=4)
    async with engine(llm, tmp_path / "copies") as client:
        refused = await load(client, wanted)
    assert refused.status_code == 422
    assert "has other files than when it was checked" in refused.json()["reason"]
    assert not llm.adapters


async def test_an_adapter_that_vllm_does_not_take_is_refused_with_its_reason(
    tmp_path: Path,
) -> None:
    llm = FakeLlm()
    llm.add_error = ValueError("LoRA rank 8 is greater than max_lora_rank 4.\ntrace")
    async with engine(llm, tmp_path / "copies") as client:
        refused = await load(client, version(tmp_path / "a"))
        assert refused.status_code == 422
        assert refused.json()["reason"] == (
            "the engine does not take it: LoRA rank 8 is greater than max_lora_rank 4."
        )
        assert (await client.get("/adapters")).json()["resident"] == []
        assert (await client.post(CHAT, json=BODIES[CHAT])).status_code == 200


async def test_the_least_recently_used_makes_room_but_none_that_runs(tmp_path: Path) -> None:
    llm = FakeLlm([WAITS])
    first, second, third = (version(tmp_path / name, rank=4 + i) for i, name in enumerate("abc"))
    room_gib = (second.loaded_bytes + third.loaded_bytes) / 1024**3
    async with engine(llm, tmp_path / "copies", room_gib) as client:
        await load(client, first)
        await load(client, second)
        answer = asyncio.create_task(
            client.post(CHAT, json=BODIES[CHAT], headers={"x-adapter": first.digest})
        )
        await eventually(lambda: bool(llm.calls) and llm.calls[0].waits)
        report = (await load(client, third)).json()
        assert report["resident"] == [first.digest, third.digest]
        assert {one.lora_name for one in llm.adapters.values()} == {first.digest, third.digest}
        assert not (tmp_path / "copies" / second.digest).exists()
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)


async def test_engines_of_a_node_share_copies_and_the_last_deletes_them(tmp_path: Path) -> None:
    wanted = version(tmp_path / "a")
    one, other = (AdapterStore(tmp_path / "copies", BASE.network) for _ in range(2))
    assert one.keep(wanted) == other.keep(wanted)
    one.close()
    assert (tmp_path / "copies" / wanted.digest).is_dir()
    AdapterStore(tmp_path / "copies", BASE.network)
    assert (tmp_path / "copies" / wanted.digest).is_dir()
    other.close()
    assert not list((tmp_path / "copies").iterdir())


async def test_what_a_killed_engine_has_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    wanted = version(tmp_path / "a")
    killed = AdapterStore(tmp_path / "copies", BASE.network)
    killed.keep(wanted)
    for descriptor in killed._locks.values():
        os.close(descriptor)  # as the end of a process does
    AdapterStore(tmp_path / "copies", BASE.network)
    assert not list((tmp_path / "copies").iterdir())


async def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    wanted = version(tmp_path / "a")
    for file in (tmp_path / "a").iterdir():
        file.unlink()
    with pytest.raises(AdapterError, match="cannot be copied: No such file"):
        AdapterStore(tmp_path / "copies", BASE.network).keep(wanted)

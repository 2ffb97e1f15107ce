import importlib.metadata
import json
import logging
from typing import Any

import httpx
import openai
import pytest

from serving.placement import Capacity
from serving.router.http.openapi import RELAYED
from serving.router.replicas.backend import Backend
from serving.router.replicas.directory import Directory
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.telemetry.observer import Observer
from tests.support.engines import Engine, Refuses
from tests.support.live_router import (
    ALIAS,
    CHAT,
    IMPATIENT,
    MAX_BODY_BYTES,
    MAX_MODEL_LEN,
    MESSAGES,
    MODEL,
    RULES,
    STARTUP_S,
    LiveRouter,
    StartRouter,
    raw_headers,
)

HOSTILE_IDS = [b"x" * 129, b"with space", b"with\ttab", b"\xc3\xa9t\xc3\xa9", b""]
OTHER = Model("mistral-test/large")


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """Returns the error object of a response, which must have OpenAI's format."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_models_are_listed_with_aliases_and_context_length(
    start_router: StartRouter,
) -> None:
    router = await start_router(Engine, models=[Model(MODEL, (ALIAS,)), OTHER])
    listed = (await router.http.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == [MODEL, OTHER.model_id]
    assert [m["aliases"] for m in listed["data"]] == [[ALIAS], []]
    assert [m["max_model_len"] for m in listed["data"]] == [MAX_MODEL_LEN, None]


async def test_the_openai_client_lists_and_gets_models(router: LiveRouter) -> None:
    assert [m.id async for m in router.openai.models.list()] == [MODEL]
    assert (await router.openai.models.retrieve(MODEL)).id == MODEL


@pytest.mark.parametrize("name", [MODEL, MODEL.replace("/", "%2F"), ALIAS])
async def test_a_model_is_found_by_its_id_with_a_slash_and_by_alias(
    router: LiveRouter, name: str
) -> None:
    response = await router.http.get(f"/v1/models/{name}")
    assert response.status_code == 200
    assert response.json()["id"] == MODEL


async def test_an_unknown_model_is_a_404_that_lists_the_known_ones(
    start_router: StartRouter,
) -> None:
    router = await start_router(Engine, models=[Model(MODEL, (ALIAS,)), OTHER])
    for response in (await router.http.get("/v1/models/gpt"), await router.chat(model="gpt")):
        error = error_of(response, 404)
        assert error["code"] == "model_not_found"
        assert error["param"] == "model"
        for name in ("gpt", MODEL, OTHER.model_id):
            assert name in error["message"]


async def test_prometheus_finds_routers_and_engines(start_router: StartRouter) -> None:
    elsewhere = Backend("http://ollama:11434/v1", "small", 8192)
    models = [Model(MODEL), Model("other", backend=elsewhere)]
    router = await start_router(Engine, Engine, models=models)
    router.directory.update("other", [ReplicaInfo("ollama", "ollama", 11434, 8192)])
    itself = router.url.removeprefix("http://")
    engines = [f"127.0.0.1:{info.port}" for info in router.infos]
    assert (await router.http.get("/-/targets")).json() == [
        {"targets": [itself], "labels": {"component": "router", "router": "router-0"}},
        *(
            {
                "targets": [address],
                "labels": {"component": "engine", "model": MODEL, "replica": f"replica-{i}"},
            }
            for i, address in enumerate(engines)
        ),
    ]


async def test_health_follows_the_replicas(router: LiveRouter) -> None:
    assert (await router.http.get("/health")).status_code == 200
    router.directory.update(MODEL, [])
    down = await router.http.get("/health")
    assert error_of(down, 503)["code"] == "no_replica"
    assert down.headers["retry-after"] == str(STARTUP_S)
    router.directory.update(MODEL, router.infos)
    assert (await router.http.get("/health")).status_code == 200


async def test_one_model_with_a_replica_is_healthy_enough(start_router: StartRouter) -> None:
    router = await start_router(Engine, models=[Model(MODEL), OTHER])
    assert (await router.http.get("/health")).status_code == 200


async def test_a_model_that_starts_when_it_is_asked_is_healthy_without_a_replica(
    start_router: StartRouter,
) -> None:
    router = await start_router(models=[Model(MODEL, from_zero=True)])
    assert (await router.http.get("/health")).status_code == 200


async def test_healthz_follows_the_router_and_not_the_replicas(start_router: StartRouter) -> None:
    router = await start_router()
    assert (await router.http.get("/-/healthz")).status_code == 200
    router.draining = True
    response = await router.http.get("/-/healthz")
    assert (response.status_code, response.text) == (503, "draining")


async def test_version_names_what_matters_for_a_bug_report(router: LiveRouter) -> None:
    versions = (await router.http.get("/version")).json()
    assert set(versions) == {"version", "mistral-serve", "ray", "mistral-common"}
    assert versions["ray"] == importlib.metadata.version("ray")


async def test_the_status_lists_models_and_replicas(start_router: StartRouter) -> None:
    router = await start_router(
        Engine, Engine, models=[Model(MODEL, (ALIAS,), RULES), OTHER], capacity=Capacity(5000, 8)
    )
    status = (await router.http.get("/-/status")).json()
    versions = (await router.http.get("/version")).json()
    assert status["versions"] == {"vllm": versions.pop("version"), **versions}
    assert (status["router"], status["routers"]) == ("router-0", 1)
    assert status["models"][MODEL]["takes_images"]
    assert status["models"][MODEL]["aliases"] == [ALIAS]
    assert status["models"][MODEL]["replicas"] == [
        {
            "replica": info.replica_id,
            "address": f"{info.host}:{info.port}",
            "requests_in_flight": 0,
            "tokens_in_flight": 0,
            "load": 0.0,
            "kv_cache_tokens": 5000,
            "max_num_seqs": 8,
            "left_out": False,
        }
        for info in router.infos
    ]
    assert status["models"][OTHER.model_id]["replicas"] == []
    assert status["models"][OTHER.model_id]["startup_left_s"] == STARTUP_S


@pytest.mark.parametrize("path", sorted(RELAYED))
async def test_each_relayed_path_reaches_the_engine_by_post_only(
    router: LiveRouter, path: str
) -> None:
    assert (await router.http.post(path, json={"model": MODEL})).status_code == 200
    for method in ("GET", "PUT", "DELETE"):
        refused = await router.http.request(method, path)
        assert refused.status_code == 405
        assert f"{method} is not allowed" in refused.json()["error"]["message"]
        assert refused.headers["allow"] == "POST"
    assert [request.target.decode() for request in router.engines[0].received] == [path]


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}", "/health", "/version"])
async def test_the_routers_own_paths_are_for_get_only(router: LiveRouter, path: str) -> None:
    refused = await router.http.post(path, json={})
    assert error_of(refused, 405)["code"] == "method_not_allowed"
    assert refused.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/", "/v1", "/docs", "/v1/embeddings", "/load_lora"])
async def test_what_is_not_there_is_a_404_and_never_reaches_an_engine(
    router: LiveRouter, path: str
) -> None:
    for method in ("GET", "POST"):
        error = error_of(await router.http.request(method, path), 404)
        assert error["code"] == "not_found"
        assert f"{method} {path}" in error["message"]
    assert router.engines[0].requests == 0


async def each_kind_of_answer(
    router: LiveRouter, headers: dict[str, str | bytes] | None = None
) -> list[httpx.Response]:
    """Returns answers of engines, of the router, and errors, all with the same request headers."""
    raw = raw_headers(headers)
    get, post = router.http.get, router.http.post
    answers = [
        await router.chat(headers),
        await router.chat(headers, stream=True),
        await get("/v1/models", headers=raw),
        await get(f"/v1/models/{MODEL}", headers=raw),
        await get("/health", headers=raw),
        await router.chat(headers, model="unknown"),
        await post(CHAT, content=b"{", headers=raw),
        await post(CHAT, content=bytes(MAX_BODY_BYTES + 1), headers=raw),
        await get(CHAT, headers=raw),
        await get("/nowhere", headers=raw),
    ]
    router.directory.update(MODEL, [])
    answers += [await router.chat(headers), await get("/health", headers=raw)]
    assert [a.status_code for a in answers] == [
        *(200, 200, 200, 200, 200),
        *(404, 400, 413, 405, 404),
        *(503, 503),
    ]
    return answers


async def test_each_answer_echoes_the_clients_request_id(start_router: StartRouter) -> None:
    router = await start_router(Engine, **IMPATIENT)
    for answer in await each_kind_of_answer(router, {"x-request-id": "client-7!~"}):
        assert answer.headers.get_list("x-request-id") == ["client-7!~"]


async def test_each_answer_has_an_id_of_its_own_where_the_client_sent_none(
    start_router: StartRouter,
) -> None:
    router = await start_router(Engine, **IMPATIENT)
    answers = await each_kind_of_answer(router)
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(len(request_id) == 32 for request_id in ids)


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
async def test_a_hostile_request_id_is_replaced(start_router: StartRouter, hostile: bytes) -> None:
    router = await start_router(Engine, **IMPATIENT)
    for answer in await each_kind_of_answer(router, {"x-request-id": hostile}):
        (request_id,) = answer.headers.get_list("x-request-id")
        assert len(request_id) == 32 and request_id.isalnum()
    assert {len(r.header(b"x-request-id") or b"") for r in router.engines[0].received} == {32}


async def test_the_longest_id_that_is_taken_has_128_bytes(router: LiveRouter) -> None:
    answer = await router.chat({"x-request-id": "x" * 128})
    assert answer.headers["x-request-id"] == "x" * 128


async def test_errors_are_what_the_openai_client_expects(start_router: StartRouter) -> None:
    router = await start_router(Refuses, **IMPATIENT)
    create = router.openai.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        await create(model="gpt", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    assert unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as invalid:
        await create(model=MODEL, messages=MESSAGES, extra_body={"max_tokens": "many"})
    assert invalid.value.code == "invalid_value"
    with pytest.raises(openai.APIStatusError) as large:
        await create(model="x" * MAX_BODY_BYTES, messages=MESSAGES)
    assert large.value.status_code == 413
    with pytest.raises(openai.InternalServerError) as down:
        await create(model=MODEL, messages=MESSAGES)
    assert down.value.code == "no_replica"
    assert down.value.type == "service_unavailable_error"


async def test_the_body_of_health_is_empty_and_of_errors_is_json(router: LiveRouter) -> None:
    assert (await router.http.get("/health")).content == b""
    missing = await router.http.get("/nowhere")
    assert int(missing.headers["content-length"]) == len(missing.content)
    assert json.loads(missing.content)


@pytest.mark.parametrize(
    ("path", "of", "name"),
    [("/v1/models/x", Directory, "find"), ("/-/status", Observer, "explained_status")],
)
async def test_what_nobody_foresaw_is_an_internal_error_whose_reason_is_in_the_log_alone(
    router: LiveRouter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
    of: type,
    name: str,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr(of, name, fail)
    headers = {"x-request-id": "mine", "origin": "http://page"}
    with caplog.at_level(logging.ERROR):
        answers = [await router.http.get(path, headers=headers) for _ in range(2)]
    for answer in answers:
        assert error_of(answer, 500)["code"] == "internal_error"
        assert "secret" not in answer.text + str(answer.headers)
        assert answer.headers["x-request-id"] == "mine"
        assert ("access-control-allow-origin" in answer.headers) == path.startswith("/v1/")
    logged = [record for record in caplog.records if record.exc_info is not None]
    assert [record.getMessage() for record in logged] == ["request mine failed in the router"] * 2
    assert all("the secret reason" in str(record.exc_info) for record in logged)

"""Who may use the API, through its endpoints: keys, what they allow, and their secrecy."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from serving.asgi import Headers
from serving.config import RouterConfig
from serving.placement import Capacity
from serving.router.http.authentication import Authentication
from serving.router.http.errors import ApiError
from serving.router.replicas.model import Model
from serving.tenants import Tenant, key_file
from serving.tenants.authentication_config import AuthenticationConfig
from serving.tenants.failure_throttle import BURST
from tests.router.telemetry.test_metrics import scrape
from tests.router.test_app import error_of
from tests.support.engines import Engine, Steered
from tests.support.keys import key_id, key_record, keys_of
from tests.support.live_router import CHAT, MESSAGES, MODEL, LiveRouter, StartRouter
from tests.support.waiting import eventually

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
SEARCH, SEARCH_2, BATCH, OLD = "sk-search-1", "sk-search-2", "sk-batch-1", "sk-old"
ADMIN = "the-admin-key"
LARGE = "mistral-test/large"


def bearer(key: str) -> Any:
    return {"authorization": f"Bearer {key}"}


async def becomes(router: LiveRouter, key: str, status: int, path: str = "/v1/models") -> None:
    """Waits until a request with the key is answered with the status."""
    async with asyncio.timeout(10):
        while True:
            if (await router.http.get(path, headers=bearer(key))).status_code == status:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def keys(tmp_path: Path) -> AuthenticationConfig:
    """The keys of `search` and `batch`."""
    return keys_of(
        tmp_path,
        key_record(SEARCH, "search"),
        key_record(SEARCH_2, "search", expires=datetime.now(UTC) + timedelta(hours=1)),
        key_record(OLD, "search", expires=datetime.now(UTC) - timedelta(seconds=1)),
        key_record(BATCH, "batch"),
    )


@pytest.fixture
def start(start_router: StartRouter, keys: AuthenticationConfig) -> StartRouter:
    """Returns a function that starts a router with these tenants."""
    tenants = (Tenant(name="search"), Tenant(name="batch", max_priority=3))

    async def started(*behaviours: type[Engine], **settings: Any) -> LiveRouter:
        settings = {"tenants": tenants, "authentication": keys} | settings
        return await start_router(*behaviours, **settings)

    return started


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("authorization", f"Bearer {SEARCH}"),
        ("authorization", f"bearer  {SEARCH}"),
        ("authorization", f"Bearer {SEARCH_2}"),
        ("x-api-key", SEARCH),
        ("api-key", SEARCH),
    ],
)
async def test_a_request_is_its_tenants_by_any_of_the_keys(
    start: StartRouter, header: str, value: str
) -> None:
    router = await start(Engine)
    assert (await router.chat({header: value}, **ASK)).status_code == 200
    await eventually(lambda: router.lines)
    line = json.loads(router.lines[0])
    assert (line["tenant"], line["key_id"]) == ("search", key_id(value.split()[-1]))


async def test_the_clients_of_openai_and_anthropic_have_a_tenants_key(start: StartRouter) -> None:
    router = await start(Engine)
    of_search = router.openai.with_options(api_key=SEARCH)
    assert [m.id async for m in of_search.models.list()] == [MODEL]
    await of_search.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": ""}])
    with pytest.raises(openai.AuthenticationError):
        await router.openai.models.list()
    with pytest.raises(openai.AuthenticationError) as refused:
        await router.openai.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert refused.value.code == "invalid_api_key"
    async with anthropic.AsyncAnthropic(base_url=router.url, api_key="sk-other") as client:
        with pytest.raises(anthropic.AuthenticationError) as wrong:
            await client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    assert isinstance(wrong.value.body, dict)
    assert wrong.value.body["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing_api_key"),
        (SEARCH, "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer sk-other", "invalid_api_key"),
        (f"Bearer {OLD}", "api_key_expired"),
    ],
)
async def test_without_a_valid_key_nothing_reaches_an_engine(
    start: StartRouter, authorization: str | None, code: str
) -> None:
    router = await start(Engine)
    headers = {"authorization": authorization} if authorization else {}
    for path in (CHAT, "/tokenize"):
        refused = await router.http.post(path, json={"model": MODEL, **ASK}, headers=headers)
        assert error_of(refused, 401)["code"] == code
        assert refused.headers["www-authenticate"] == "Bearer"
    assert not router.engines[0].received
    await eventually(lambda: len(router.lines) == 2)
    line = json.loads(router.lines[0])
    assert (line["outcome"], line["status"], line["tenant"]) == ("unauthorized", 401, None)
    failures = f'authentication_failures_total{{code="{code}"}}'
    assert (await scrape(router))[failures] == 2


async def test_a_key_is_for_the_models_that_it_names(start: StartRouter, tmp_path: Path) -> None:
    limited = keys_of(tmp_path, key_record("sk-small", "default", models=("small",)))
    router = await start(
        Engine, models=[Model(MODEL, ("small",)), Model(LARGE)], tenants=(), authentication=limited
    )
    headers = bearer("sk-small")
    assert (await router.chat(headers, **ASK)).status_code == 200
    assert (await router.chat(headers, **ASK, model=None)).status_code == 200
    refused = await router.chat(headers, **ASK, model=LARGE)
    assert error_of(refused, 403)["code"] == "model_not_allowed"
    await eventually(lambda: len(router.lines) == 3)
    assert json.loads(router.lines[2])["outcome"] == "unauthorized"
    unknown = error_of(await router.chat(headers, **ASK, model="made-up"), 404)
    assert LARGE not in unknown["message"]
    message = {"model": LARGE, "max_tokens": 1, **ASK}
    of_anthropic = await router.http.post("/v1/messages", json=message, headers=headers)
    assert of_anthropic.status_code == 403
    assert of_anthropic.json()["error"]["type"] == "permission_error"
    client = router.openai.with_options(api_key="sk-small")
    assert [m.id async for m in client.models.list()] == [MODEL]
    with pytest.raises(openai.PermissionDeniedError):
        await client.models.retrieve(LARGE)


async def test_a_key_is_for_the_endpoints_that_it_names(start: StartRouter, tmp_path: Path) -> None:
    limited = keys_of(tmp_path, key_record("sk-chat", "batch", endpoints=(CHAT, "/v1/models")))
    router = await start(Engine, authentication=limited)
    headers = bearer("sk-chat")
    assert (await router.chat(headers, **ASK)).status_code == 200
    for path in ("/v1/models", f"/v1/models/{MODEL}"):
        assert (await router.http.get(path, headers=headers)).status_code == 200
    for path in ("/v1/messages", "/tokenize", "/v1/completions"):
        refused = await router.http.post(path, json={"model": MODEL}, headers=headers)
        assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "endpoint_not_allowed"


async def test_a_key_of_a_tenant_that_is_not_configured_is_refused_with_the_reason(
    start: StartRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = await start(
        Engine, authentication=keys_of(tmp_path, key_record("sk-strange", "strange"))
    )
    error = error_of(await router.chat(bearer("sk-strange"), **ASK), 403)
    assert error["code"] == "unknown_tenant" and "'strange'" in error["message"]
    assert "the tenant strange" in caplog.text


@pytest.mark.parametrize("path", ["/health", "/-/healthz", "/metrics", "/version", "/-/status"])
async def test_whoever_operates_it_needs_no_tenants_key(start: StartRouter, path: str) -> None:
    router = await start(Engine)
    assert (await router.http.get(path)).status_code == 200


async def test_without_keys_any_key_will_do(router: LiveRouter) -> None:
    for headers in ({}, {"authorization": "Bearer EMPTY"}):
        assert (await router.chat({**headers}, **ASK)).status_code == 200


@pytest.mark.parametrize("has_tenants", [True, False])
async def test_with_an_admin_key_the_state_of_the_service_is_for_operators(
    start: StartRouter, keys: AuthenticationConfig, tmp_path: Path, has_tenants: bool
) -> None:
    (tmp_path / "admin").write_text(f"{ADMIN}\n")
    admin = {"admin_key_file": str(tmp_path / "admin")}
    settings = (keys if has_tenants else AuthenticationConfig()).model_copy(update=admin)
    tenants = (Tenant(name="search"), Tenant(name="batch")) if has_tenants else ()
    router = await start(
        Engine, authentication=settings, tenants=tenants, ledger_folder=tmp_path / "usage"
    )
    for path in ("/-/status", "/-/targets", "/-/usage"):
        assert (await router.http.get(path, headers=bearer(ADMIN))).status_code == 200
        assert error_of(await router.http.get(path), 401)["code"] == "missing_api_key"
        wrong = await router.http.get(path, headers=bearer("sk-other"))
        assert error_of(wrong, 401)["code"] == "invalid_api_key"
        if has_tenants:
            of_tenant = await router.http.get(path, headers=bearer(SEARCH))
            assert error_of(of_tenant, 403)["code"] == "admin_key_required"
    for path in ("/health", "/-/healthz", "/metrics"):
        assert (await router.http.get(path)).status_code == 200
    status = (await router.chat(bearer(ADMIN), **ASK)).status_code
    assert status == (401 if has_tenants else 200)
    (tmp_path / "admin").write_text("another")
    await becomes(router, "another", 200, "/-/status")
    assert error_of(await router.http.get("/-/status", headers=bearer(ADMIN)), 401)


async def test_keys_come_and_go_without_a_restart(
    start: StartRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = await start(Engine)
    path = tmp_path / "keys.json"

    async def status(key: str) -> int:
        return (await router.http.get("/v1/models", headers=bearer(key))).status_code

    key_file.change(path, lambda keys: (*keys, key_record("sk-new", "batch")))
    await becomes(router, "sk-new", 200)
    assert await status(SEARCH) == 200
    path.write_bytes(path.read_bytes()[:-100])
    await eventually(lambda: "stays in force" in caplog.text)
    assert await status("sk-new") == await status(SEARCH) == 200
    stale = 'authentication_stale{source="keys_file"}'
    assert (await scrape(router))[stale] == 1
    path.unlink()
    await eventually(lambda: "cannot be read" in caplog.text)
    assert await status(SEARCH) == 200
    keys_of(tmp_path, key_record("sk-new", "search"))
    await becomes(router, SEARCH, 401)
    assert await status("sk-new") == 200
    assert (await scrape(router))[stale] == 0


async def test_a_secret_that_kubernetes_updates_is_read_anew(
    start: StartRouter, tmp_path: Path
) -> None:
    """The kubelet swaps a link to the folder in which a Secret's files are."""
    for name, key in (("..1", "sk-1"), ("..2", "sk-2")):
        (tmp_path / name).mkdir()
        keys_of(tmp_path / name, key_record(key, "batch"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "mounted.json").symlink_to("..data/keys.json")
    mounted = AuthenticationConfig(keys_file=str(tmp_path / "mounted.json"))
    router = await start(Engine, authentication=mounted)
    assert (await router.chat(bearer("sk-1"), **ASK)).status_code == 200
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await becomes(router, "sk-2", 200)
    assert (await router.chat(bearer("sk-1"), **ASK)).status_code == 401


async def test_many_failures_from_an_address_are_slowed_and_a_valid_key_never(
    start: StartRouter,
) -> None:
    router = await start(Engine)
    for _ in range(BURST):
        assert (await router.chat(bearer("sk-guess"), **ASK)).status_code == 401
    slowed = await router.chat(bearer("sk-guess"), **ASK)
    assert error_of(slowed, 429)["code"] == "too_many_failures"
    assert int(slowed.headers["retry-after"]) > 0
    assert (await router.http.get("/v1/models")).status_code == 429
    assert (await router.chat(bearer(SEARCH), **ASK)).status_code == 200
    await eventually(lambda: len(router.lines) == BURST + 2)
    assert json.loads(router.lines[BURST])["outcome"] == "unauthorized"


@pytest.mark.parametrize("highest", [None, 3])
async def test_a_tenant_goes_no_further_ahead_than_it_or_its_key_may(
    start: StartRouter, tmp_path: Path, highest: int | None
) -> None:
    """With `highest` it is the key that may not, of a tenant that may."""
    tenant = "batch" if highest is None else "search"
    keys = keys_of(
        tmp_path, key_record(SEARCH, "search"), key_record(BATCH, tenant, max_priority=highest)
    )
    router = await start(Steered, authentication=keys, capacity=Capacity(10**6, 1), max_wait_s=1000)
    asking = []

    async def ask(key: str, priority: str) -> None:
        headers: dict[str, str | bytes] = {"x-api-key": key, "x-priority": priority}
        headers["x-request-id"] = f"{key}-{priority}"
        asking.append(asyncio.create_task(router.chat(headers, **ASK)))

    await ask(SEARCH, "5")
    engine = await router.asked()
    dispatcher = router.directory.models[MODEL].dispatcher
    for key, priority in ((BATCH, "9"), (SEARCH, "4"), (BATCH, "2")):
        await ask(key, priority)
        await eventually(lambda: dispatcher.waiting == len(asking) - 1)
    engine.proceed()
    order = []
    for _ in asking[1:]:
        engine = await router.asked()
        order.append(engine.request_id)
        engine.proceed()
    await asyncio.gather(*asking)
    assert order == [f"{SEARCH}-4", f"{BATCH}-9", f"{BATCH}-2"]


async def test_no_key_is_published_or_kept(
    start: StartRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    router = await start(Engine)
    answers = [await router.chat({"x-api-key": key}, **ASK) for key in (SEARCH, OLD, "sk-secret")]
    await eventually(lambda: len(router.lines) == 3)
    published = [answer.text for answer in answers] + [str(answer.headers) for answer in answers]
    published += [line.decode() for line in router.lines] + [caplog.text]
    published += [(await router.http.get("/metrics")).text]
    published += [str(request) for request in router.engines[0].received]
    published += [(tmp_path / "keys.json").read_text()]
    assert not [text for text in published if any(k in text for k in (SEARCH, OLD, "sk-secret"))]


@pytest.mark.parametrize("field", ["keys_file", "admin_key_file"])
@pytest.mark.parametrize("content", [None, "", "   \n"])
def test_a_router_does_not_start_without_the_keys_that_it_should_have(
    tmp_path: Path, field: str, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content)
    config = AuthenticationConfig.model_validate({field: str(tmp_path / "file")})
    with pytest.raises(RuntimeError, match=rf"router\.authentication\.{field}: the file .*file "):
        Authentication(RouterConfig(authentication=config))


async def test_a_header_of_any_bytes_is_no_key(keys: AuthenticationConfig) -> None:
    tenants = (Tenant(name="search"),)
    known = Authentication(RouterConfig(authentication=keys, tenants=tenants))
    headers: Headers = [(b"authorization", b"Bearer \xff\x00"), (b"x-api-key", SEARCH.encode())]
    assert (await known.caller({"headers": headers, "path": CHAT})).tenant.name == "search"
    with pytest.raises(ApiError) as refused:
        await known.caller({"headers": headers[:1], "path": CHAT})
    assert refused.value.code == "invalid_api_key"

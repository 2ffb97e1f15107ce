"""Authentication by the tokens of an identity provider, through the router's endpoints."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.router.http import issuer_keys
from serving.tenants import Tenant
from serving.tenants.authentication_config import AuthenticationConfig
from tests.router.http.test_authentication import bearer, becomes
from tests.router.telemetry.test_metrics import scrape
from tests.router.test_app import error_of
from tests.support.engines import Engine
from tests.support.issuer import Issuer, ec_key, running_issuer
from tests.support.keys import key_record, keys_of
from tests.support.live_router import LiveRouter, StartRouter
from tests.support.waiting import eventually

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
TENANTS = (Tenant(name="search"), Tenant(name="batch"))
STALE = 'authentication_stale{source="oidc"}'


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """A provider that routers ask as often as they want."""
    monkeypatch.setattr(issuer_keys, "LEAST_PERIOD_S", 0.0)
    with running_issuer() as issuer:
        yield issuer


async def started(start_router: StartRouter, issuer: Issuer, **settings: Any) -> LiveRouter:
    known = AuthenticationConfig(oidc=issuer.config)
    return await start_router(Engine, tenants=TENANTS, **{"authentication": known} | settings)


async def test_a_token_is_its_tenants_beside_keys(
    start_router: StartRouter, issuer: Issuer, tmp_path: Path
) -> None:
    both = keys_of(tmp_path, key_record("sk-1", "batch")).model_copy(update={"oidc": issuer.config})
    router = await started(start_router, issuer, authentication=both)
    for credential in (issuer.token("search"), "sk-1"):
        assert (await router.chat(bearer(credential), **ASK)).status_code == 200
    await eventually(lambda: len(router.lines) == 2)
    lines = [line.decode() for line in router.lines]
    assert '"tenant":"search","key_id":null' in lines[0] and '"tenant":"batch"' in lines[1]
    expired = error_of(await router.chat(bearer(issuer.token(exp=1000)), **ASK), 401)
    assert (expired["code"], expired["message"]) == ("invalid_token", "The token has expired.")
    stranger = error_of(await router.chat(bearer(issuer.token("stranger")), **ASK), 403)
    assert stranger["code"] == "unknown_tenant"
    assert error_of(await router.chat(bearer("sk-2"), **ASK), 401)["code"] == "invalid_api_key"


async def test_keys_of_the_issuer_come_and_go_without_a_refused_request(
    start_router: StartRouter, issuer: Issuer
) -> None:
    router = await started(start_router, issuer)
    old = issuer.token()
    assert (await router.chat(bearer(old), **ASK)).status_code == 200
    issuer.keys["two"] = ec_key()
    for _ in range(3):
        new = issuer.token(key_id="two", algorithm="ES256")
        assert (await router.chat(bearer(new), **ASK)).status_code == 200
    assert issuer.asked == 2
    del issuer.keys["one"]
    unknown = bearer(issuer.token(key_id="two", headers={"kid": "three"}, algorithm="ES256"))
    assert error_of(await router.chat(unknown, **ASK), 401)["code"] == "invalid_token"
    assert (await router.chat(bearer(old), **ASK)).status_code == 401


async def test_while_the_issuer_is_away_its_last_keys_stay_in_force(
    start_router: StartRouter, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.up = False
    router = await started(start_router, issuer)
    early = await router.chat(bearer(issuer.token()), **ASK)
    assert error_of(early, 503)["code"] == "issuer_unavailable"
    assert int(early.headers["retry-after"]) > 0
    assert "no keys from" in caplog.text
    assert (await scrape(router))[STALE] == 1
    issuer.up = True
    await becomes(router, issuer.token(), 200)
    assert (await scrape(router))[STALE] == 0
    issuer.up = False
    unknown = bearer(issuer.token(headers={"kid": "three"}))
    assert (await router.chat(unknown, **ASK)).status_code == 401
    assert (await scrape(router))[STALE] == 1
    assert (await router.chat(bearer(issuer.token()), **ASK)).status_code == 200


async def test_no_token_is_published_or_kept(
    start_router: StartRouter, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    router = await started(start_router, issuer)
    tokens = [issuer.token(), issuer.token(exp=1000), issuer.token("stranger"), "a.b.secret"]
    answers = [await router.chat(bearer(token), **ASK) for token in tokens]
    await eventually(lambda: len(router.lines) == len(tokens))
    published = [answer.text + str(answer.headers) for answer in answers] + [caplog.text]
    published += [line.decode() for line in router.lines]
    published += [(await router.http.get("/metrics")).text]
    published += [str(request) for request in router.engines[0].received]
    parts = [token.split(".")[2] for token in tokens]
    assert not [text for text in published if any(part in text for part in parts)]

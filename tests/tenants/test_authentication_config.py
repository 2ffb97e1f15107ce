"""Which settings of authentication are refused, and why."""

from typing import Any

import pytest
from pydantic import ValidationError

from serving.config import RouterConfig

OIDC = {"issuer": "https://id.example.com", "audience": "mistral", "tenant_claim": "azp"}
KEYS = {"keys_file": "/etc/mistral-serve/keys.json"}


def router(**fields: Any) -> RouterConfig:
    return RouterConfig.model_validate(fields)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_loopback_nothing_needs_to_be_said(host: str) -> None:
    assert router().host == "127.0.0.1"
    assert not router(host=host).authentication.knows_callers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "router.example.com"])
def test_a_service_that_others_can_reach_is_not_open_by_mistake(host: str) -> None:
    with pytest.raises(ValidationError, match="everyone who reaches") as error:
        router(host=host)
    for way_out in ("keys_file", "mistral-serve keys create", "oidc", "allow_anonymous: true"):
        assert way_out in str(error.value)
    with pytest.raises(ValidationError, match="everyone who reaches"):
        router(host=host, authentication={"admin_key_file": "/key"})
    for settings in (KEYS, {"oidc": OIDC}, {"allow_anonymous": True}):
        assert router(host=host, authentication=settings).host == host


@pytest.mark.parametrize("known", [KEYS, {"oidc": OIDC}])
def test_a_service_that_asks_for_keys_is_not_open_as_well(known: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="cannot be combined with keys_file and oidc"):
        router(authentication={"allow_anonymous": True, **known})


def test_tenants_need_a_way_to_be_told_apart() -> None:
    with pytest.raises(ValidationError, match=r"authentication\.keys_file or authentication\.oidc"):
        router(tenants=[{"name": "a"}])
    for known in (KEYS, {"oidc": OIDC}):
        router(tenants=[{"name": "a"}], authentication=known)


@pytest.mark.parametrize(
    "issuer",
    ["http://id.example.com", "id.example.com", "https://", "https://id.example.com?tenant=1"],
)
def test_an_issuer_is_an_https_url(issuer: str) -> None:
    with pytest.raises(ValidationError, match="allowed is an https URL"):
        router(authentication={"oidc": OIDC | {"issuer": issuer}})
    router(authentication={"oidc": OIDC | {"issuer": "http://127.0.0.1:8080/realm"}})

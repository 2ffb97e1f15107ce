"""Which tokens of an identity provider are accepted."""

import base64
import json
import math
import time
from typing import Any

import pytest

from serving.tenants import Tenant
from serving.tenants.tokens import (
    TokenError,
    UnknownSigningKeyError,
    UnknownTenantError,
    signing_keys,
    verify,
)
from tests.support.issuer import AUDIENCE, Issuer, ec_key

TENANTS = {"search": Tenant(name="search", max_priority=4)}
SKEW_S = 60
"""The default of the setting."""


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    issuer = Issuer()
    issuer.keys["two"] = ec_key()
    return issuer


def caller(issuer: Issuer, token: str, later_s: float = 0.0) -> Any:
    keys = signing_keys(issuer.jwks())
    return verify(token.encode(), issuer.config, keys, TENANTS, time.time() + later_s)


@pytest.mark.parametrize("claims", [{}, {"aud": ["other", AUDIENCE]}, {"iat": None, "exp": 2**33}])
def test_a_token_of_the_issuer_is_its_tenants(issuer: Issuer, claims: dict[str, Any]) -> None:
    found = caller(issuer, issuer.token(**claims))
    assert (found.tenant.name, found.max_priority, found.key_id) == ("search", 4, None)
    assert time.time() < found.expires_s < math.inf


def test_each_listed_key_may_sign_with_its_own_algorithm(issuer: Issuer) -> None:
    assert caller(issuer, issuer.token(key_id="two", algorithm="ES256")).tenant.name == "search"
    with pytest.raises(TokenError, match="no valid signature"):
        caller(issuer, issuer.token(key_id="one", key=issuer.keys["two"], algorithm="ES256"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"iss": "https://other.example.com"}, "is of another issuer"),
        ({"aud": "other"}, "is for another audience"),
        ({"aud": None}, "lacks one of the claims"),
        ({"exp": None}, "lacks one of the claims"),
        ({"exp": "tomorrow"}, "lacks one of the claims"),
        ({"nbf": 2**33}, "is not valid yet"),
        ({"iat": 2**33}, "is not valid yet"),
    ],
)
def test_what_a_token_says_must_be_right(
    issuer: Issuer, changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(TokenError, match=says):
        caller(issuer, issuer.token(**changed))


def test_clocks_may_differ_by_the_skew(issuer: Issuer) -> None:
    token = issuer.token(exp=time.time() + 300, nbf=time.time())
    assert caller(issuer, token, 300 + SKEW_S - 5) and caller(issuer, token, 5 - SKEW_S)
    with pytest.raises(TokenError, match="has expired"):
        caller(issuer, token, 300 + SKEW_S + 5)
    with pytest.raises(TokenError, match="is not valid yet"):
        caller(issuer, token, -SKEW_S - 5)


@pytest.mark.parametrize("tenant", [None, "other", 7, ["search"], {"name": "search"}])
def test_a_tenant_that_is_not_configured_is_told_apart(issuer: Issuer, tenant: Any) -> None:
    with pytest.raises(UnknownTenantError, match="'azp' of the token names no tenant"):
        caller(issuer, issuer.token(tenant))


def unsigned(issuer: Issuer, algorithm: str) -> str:
    header = {"alg": algorithm, "kid": "one"}
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{encoded}.{issuer.token().split('.')[1]}."


@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS256", "ES256K"])
def test_no_algorithm_is_taken_that_anyone_could_sign_with(issuer: Issuer, algorithm: str) -> None:
    with pytest.raises(TokenError, match="algorithm that is not allowed"):
        caller(issuer, unsigned(issuer, algorithm))


def test_a_public_key_is_no_secret_of_an_hmac(issuer: Issuer) -> None:
    shared = json.loads(issuer.jwks())["keys"][0]["n"]
    with pytest.raises(TokenError, match="algorithm that is not allowed"):
        caller(issuer, issuer.token(key=shared, algorithm="HS256"))


def test_a_signature_is_of_the_whole_token(issuer: Issuer) -> None:
    header, payload, signature = issuer.token().split(".")
    _, other, _ = issuer.token("other").split(".")
    for wrong in (f"{header}.{other}.{signature}", f"{header}.{payload}.", f"{header}.{payload}.x"):
        with pytest.raises(TokenError, match="no valid signature"):
            caller(issuer, wrong)


@pytest.mark.parametrize("token", ["a.b.c", "..", "\xff.\xff.\xff", "e30.e30.", "a" * 9000])
def test_what_is_no_token_is_none(issuer: Issuer, token: str) -> None:
    with pytest.raises(TokenError) as error:
        caller(issuer, token)
    assert token[:9] not in str(error.value)


def test_a_key_that_is_not_listed_may_be_a_new_one(issuer: Issuer) -> None:
    with pytest.raises(UnknownSigningKeyError):
        caller(issuer, issuer.token(headers={"kid": "three"}))
    with pytest.raises(UnknownSigningKeyError):
        caller(issuer, issuer.token(headers={}))  # there are two


def test_the_only_key_needs_no_name() -> None:
    alone = Issuer()
    assert caller(alone, alone.token(headers={})).tenant.name == "search"


def test_keys_for_other_uses_do_not_count(issuer: Issuer) -> None:
    secret = {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}
    listed = [secret, {"kty": "new", "kid": "n"}, *json.loads(issuer.jwks())["keys"]]
    assert set(signing_keys(json.dumps({"keys": listed}).encode())) == {"one", "two"}
    for jwks in (issuer.jwks(use="enc"), b'{"keys": []}', json.dumps({"keys": [secret]}).encode()):
        with pytest.raises(ValueError, match="without a public key"):
            signing_keys(jwks)
    for jwks in (b"<html>", b"[]", b'{"keys": 7}', b'{"keys": ["a"]}', b"\xff"):
        with pytest.raises(ValueError, match="not a JWK set"):
            signing_keys(jwks)

"""Tokens of an identity provider: JWTs (RFC 7519), signed with one of its keys."""

from collections.abc import Mapping
from typing import Any

import jwt
import msgspec
from jwt import PyJWK, PyJWS

from serving.tenants.authentication_config import OidcConfig
from serving.tenants.caller import Caller
from serving.tenants.tenant import Tenant

ALGORITHMS = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
"""Those that verify with a public key. With HS256 or none, anyone could sign."""

_MAX_BYTES = 8192
_jws = PyJWS(sorted(ALGORITHMS), {"enforce_minimum_key_length": True})

SigningKeys = Mapping[str | None, PyJWK]
"""The provider's public keys by their ids; None: its only one, which tokens need not name."""


class TokenError(Exception):
    """The token is not accepted; the message says why, and has nothing of it."""


class UnknownSigningKeyError(TokenError):
    """The token names a key that is not known, or no longer."""


class UnknownTenantError(Exception):
    """The token is the provider's, and its tenant is not configured; the message is for clients."""


class _Claims(msgspec.Struct):
    iss: str
    exp: float
    aud: str | tuple[str, ...]
    nbf: float = 0.0
    iat: float = 0.0


def signing_keys(jwks: bytes) -> dict[str | None, PyJWK]:
    """Reads a JWK set (RFC 7517), of which only public keys for signatures count. Raises
    ValueError if it has none."""
    try:
        listed = msgspec.json.decode(jwks, type=dict[str, Any])["keys"]
        wanted = [jwk for jwk in listed if jwk.get("use", "sig") == "sig"]
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        raise ValueError("not a JWK set") from None
    keys: dict[str | None, PyJWK] = {}
    for jwk in wanted:
        try:
            key = PyJWK(jwk)
        except jwt.PyJWTError:
            continue  # of a kind that no token here may have
        if key.algorithm_name in ALGORITHMS:
            keys[key.key_id] = key
    if not keys:
        raise ValueError("a JWK set without a public key for signatures")
    if len(keys) == 1:
        keys[None] = next(iter(keys.values()))
    return keys


def verify(
    token: bytes,
    config: OidcConfig,
    keys: SigningKeys,
    tenants: Mapping[str, Tenant],
    now_s: float,
) -> Caller:
    """Returns who comes with the token. Raises TokenError and UnknownTenantError."""
    if len(token) > _MAX_BYTES:
        raise TokenError("is too long")
    payload = _verified(token, keys)
    try:
        claims = msgspec.json.decode(payload, type=_Claims)
        tenant = msgspec.json.decode(payload, type=dict[str, Any]).get(config.tenant_claim)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TokenError("lacks one of the claims iss, aud and exp") from None
    if claims.iss != config.issuer:
        raise TokenError("is of another issuer")
    audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    if config.audience not in audiences:
        raise TokenError("is for another audience")
    expires_s = claims.exp + config.clock_skew_s
    if now_s >= expires_s:
        raise TokenError("has expired")
    if max(claims.nbf, claims.iat) > now_s + config.clock_skew_s:
        raise TokenError("is not valid yet")
    known = tenants.get(tenant) if isinstance(tenant, str) else None
    if known is None:
        raise UnknownTenantError(
            f"The claim '{config.tenant_claim}' of the token names no tenant of this service."
        )
    return Caller(known, known.max_priority, expires_s=expires_s)


def _verified(token: bytes, keys: SigningKeys) -> bytes:
    """Returns the payload of a token with a signature of one of the keys. Raises TokenError."""
    try:
        header = _jws.get_unverified_header(token)
        if header["alg"] not in ALGORITHMS:
            raise TokenError("is signed with an algorithm that is not allowed")
        key = keys.get(header.get("kid"))
        if key is None:
            raise UnknownSigningKeyError("is signed with a key that its issuer does not list")
        payload: bytes = _jws.decode(token, key, sorted(ALGORITHMS))
    except (jwt.PyJWTError, LookupError, TypeError):
        raise TokenError("has no valid signature") from None
    return payload

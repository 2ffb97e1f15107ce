"""Authentication by the tokens of an identity provider."""

import time
from collections import OrderedDict
from collections.abc import Mapping

from serving.router.http import authentication_errors
from serving.router.http.issuer_keys import IssuerKeys
from serving.tenants import Caller, Tenant
from serving.tenants.authentication_config import OidcConfig
from serving.tenants.tokens import (
    TokenError,
    UnknownSigningKeyError,
    UnknownTenantError,
    verify,
)

_MAX_KNOWN = 10_000


class IssuerTokens:
    """Knows who comes with a token. A token is verified once, and again when the provider's keys
    change."""

    def __init__(self, config: OidcConfig, tenants: Mapping[str, Tenant]) -> None:
        self._config = config
        self._tenants = tenants
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        """Who comes with a token of each hash, of those verified last."""
        self.issuer = IssuerKeys(config.issuer, self._known.clear)

    async def caller(self, token: bytes, hashed: bytes) -> Caller:
        """Returns who comes with the token, which has this hash. Raises ApiError."""
        caller = self._known.get(hashed)
        if caller is None or time.time() >= caller.expires_s:
            caller = await self._verified(token)
            self._known[hashed] = caller
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return caller

    async def _verified(self, token: bytes) -> Caller:
        try:
            try:
                return self._verify(token)
            except UnknownSigningKeyError:
                await self.issuer.look_again()
                return self._verify(token)
        except UnknownTenantError as error:
            raise authentication_errors.unknown_tenant(str(error)) from None
        except TokenError as error:
            if isinstance(error, UnknownSigningKeyError) and not self.issuer.keys:
                raise authentication_errors.issuer_unavailable() from None
            raise authentication_errors.invalid_token(str(error)) from None

    def _verify(self, token: bytes) -> Caller:
        return verify(token, self._config, self.issuer.keys, self._tenants, time.time())

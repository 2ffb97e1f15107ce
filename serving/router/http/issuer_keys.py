"""The public keys by which an identity provider's tokens are verified."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import httpx

from serving.tenants.tokens import SigningKeys, signing_keys

_PERIOD_S = 300.0
"""Time between two looks at the provider's keys."""
LEAST_PERIOD_S = 10.0
"""Time between two looks when the last one failed, or tokens name keys that are not known."""
_TIMEOUT_S = 5.0
_DISCOVERY = "/.well-known/openid-configuration"

log = logging.getLogger(__name__)


class IssuerKeys:
    """Fetches the keys in the background, by OpenID Connect Discovery 1.0. While the provider does
    not answer, the keys that it had stay in force."""

    def __init__(self, issuer: str, changed: Callable[[], object]) -> None:
        """`changed` is called when the provider's keys are others than before."""
        self.keys: SigningKeys = {}
        self.failing = False
        self._issuer = issuer
        self._changed = changed
        self._jwks = b""
        self._wanted = asyncio.Event()
        self._fetched = asyncio.Event()
        self._last_s = 0.0

    async def run(self) -> None:
        """Keeps the keys up to date until cancelled."""
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            while True:
                await self._fetch(client)
                self._last_s = loop.time()
                self._wanted.clear()
                self._fetched.set()
                self._fetched = asyncio.Event()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LEAST_PERIOD_S if self.failing else _PERIOD_S):
                        await self._wanted.wait()

    async def look_again(self) -> None:
        """Has the keys fetched now, as the provider may have new ones, unless they just were. One
        fetch serves all that wait for it."""
        if asyncio.get_running_loop().time() - self._last_s >= LEAST_PERIOD_S:
            self._wanted.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._fetched.wait()

    async def _fetch(self, client: httpx.AsyncClient) -> None:
        try:
            jwks = await self._get(client)
            keys = self.keys if jwks == self._jwks else signing_keys(jwks)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            if not self.failing:
                what = str(error) or type(error).__name__
                log.error("authentication.oidc: no keys from %s: %s", self._issuer, what)
            self.failing = True
            return
        self.failing = False
        if keys is not self.keys:
            self.keys, self._jwks = keys, jwks
            self._changed()

    async def _get(self, client: httpx.AsyncClient) -> bytes:
        found = await client.get(self._issuer.rstrip("/") + _DISCOVERY)
        document = found.raise_for_status().json()
        if document["issuer"] != self._issuer:
            raise ValueError(f"its discovery document is of another issuer: {document['issuer']}")
        url: str = document["jwks_uri"]
        if httpx.URL(url).scheme != httpx.URL(self._issuer).scheme:
            raise ValueError(f"its jwks_uri is no https URL: {url}")
        return (await client.get(url)).raise_for_status().content

"""Authentication: who sends a request, by an API key or a token of an identity provider."""

import asyncio
import hmac
import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from starlette.requests import Request
from starlette.types import Scope

from serving.asgi import Headers
from serving.config import RouterConfig
from serving.router.http import authentication_errors
from serving.router.http.errors import ApiError
from serving.router.http.watched_file import WatchedFile
from serving.tenants import DEFAULT, Caller, Tenant
from serving.tenants.api_key import callers, digest
from serving.tenants.failure_throttle import FailureThrottle
from serving.tenants.key_file import KeyFileError, parse

if TYPE_CHECKING:
    from serving.router.http.issuer_tokens import IssuerTokens

AuthenticationFailure = Literal[
    "missing_api_key",
    "invalid_api_key",
    "api_key_expired",
    "invalid_token",
    "unknown_tenant",
    "issuer_unavailable",
    "too_many_failures",
]
"""Codes of the errors of requests whose sender is not known."""

_BEARER = b"bearer "
_WATCH_PERIOD_S = 1.0
_Keys = tuple[dict[bytes, Caller], dict[bytes, str]]

log = logging.getLogger(__name__)


class Authentication:
    """Identifies the senders of requests. Without API keys and an identity provider everyone is the
    tenant `default`, whatever they send."""

    def __init__(self, router: RouterConfig) -> None:
        """Reads the files with the keys. Raises RuntimeError if one is unusable."""
        config = router.authentication
        tenants = router.tenants or (DEFAULT,)
        self.tenants: Mapping[str, Tenant] = {tenant.name: tenant for tenant in tenants}
        self.is_required = config.knows_callers
        self.failures: dict[str, int] = dict.fromkeys(get_args(AuthenticationFailure), 0)
        self._anyone = Caller(DEFAULT, DEFAULT.max_priority)
        self._throttle = FailureThrottle()
        self._keys: WatchedFile[_Keys] | None = None
        if config.keys_file is not None:
            name = "router.authentication.keys_file"
            self._keys = WatchedFile(config.keys_file, name, self._callers)
        self._admin_key: WatchedFile[bytes] | None = None
        if config.admin_key_file is not None:
            name = "router.authentication.admin_key_file"
            self._admin_key = WatchedFile(config.admin_key_file, name, _admin_key_digest)
        self._tokens: IssuerTokens | None = None
        if config.oidc is not None:
            # Imported here because it takes long, and few need it.
            from serving.router.http import issuer_tokens

            self._tokens = issuer_tokens.IssuerTokens(config.oidc, self.tenants)

    @property
    def stale(self) -> dict[str, bool]:
        """Whether each source of keys is unusable, so that what it had before stays in force."""
        sources = {
            "keys_file": self._keys,
            "admin_key_file": self._admin_key,
            "oidc": self._tokens.issuer if self._tokens is not None else None,
        }
        return {name: source is not None and source.failing for name, source in sources.items()}

    async def run(self, period_s: float = _WATCH_PERIOD_S) -> None:
        """Follows changes of the keys until cancelled."""
        files = [file for file in (self._keys, self._admin_key) if file is not None]
        async with asyncio.TaskGroup() as tasks:
            if self._tokens is not None:
                tasks.create_task(self._tokens.issuer.run())
            while files:
                await asyncio.sleep(period_s)
                for file in files:
                    await asyncio.to_thread(file.look)

    async def caller(self, scope: Scope) -> Caller:
        """Returns who sends the request. Raises ApiError: 401, 403, 429 after many failures, or 503
        while the identity provider's keys are not known."""
        if not self.is_required:
            return self._anyone
        caller = await self._identified(scope)
        if not caller.may_ask(scope["path"]):
            raise authentication_errors.endpoint_not_allowed(scope["path"])
        return caller

    async def tenant(self, request: Request) -> str:
        """Returns the name of the tenant that sends the request. Raises ApiError as `caller`."""
        return (await self.caller(request.scope)).tenant.name

    async def check_admin(self, request: Request) -> None:
        """Raises ApiError unless the request has the admin key, or none is configured."""
        if self._admin_key is None:
            return
        scope = request.scope
        sent = list(_sent(scope["headers"]))
        if any(hmac.compare_digest(digest(key), self._admin_key.value) for key in sent):
            return
        if self.is_required:
            await self._identified(scope)
            raise authentication_errors.admin_key_required()
        raise self._failed(
            scope,
            authentication_errors.invalid_api_key()
            if sent
            else authentication_errors.missing_api_key(),
        )

    async def _identified(self, scope: Scope) -> Caller:
        refused = None
        for credential in _sent(scope["headers"]):
            try:
                return await self._known(credential)
            except ApiError as error:
                refused = error
        raise self._failed(scope, refused or authentication_errors.missing_api_key())

    async def _known(self, credential: bytes) -> Caller:
        """Returns who comes with the credential. Raises ApiError."""
        hashed = digest(credential)
        if self._keys is not None:
            known, of_unknown_tenants = self._keys.value
            caller = known.get(hashed)
            if caller is not None:
                if time.time() < caller.expires_s:
                    return caller
                raise authentication_errors.api_key_expired()
            if hashed in of_unknown_tenants:
                raise authentication_errors.unknown_tenant(
                    f"The key's tenant '{of_unknown_tenants[hashed]}' is not configured."
                )
        if self._tokens is None or credential.count(b".") != 2:
            raise authentication_errors.invalid_api_key()
        return await self._tokens.caller(credential, hashed)

    def _failed(self, scope: Scope, error: ApiError) -> ApiError:
        """Counts a failure. Returns the error to raise: another one if the address has many."""
        if error.status == 401:
            address = scope["client"][0] if scope.get("client") else ""
            if retry_after_s := self._throttle.failed(address, time.time()):
                error = authentication_errors.too_many_failures(retry_after_s)
        if error.code is not None:
            self.failures[error.code] += 1
        return error

    def _callers(self, keys_file: bytes) -> _Keys:
        keys = parse(keys_file)
        known, of_unknown_tenants = callers(keys, self.tenants)
        for tenant in sorted(set(of_unknown_tenants.values())):
            log.warning("keys of the tenant %s are refused: router.tenants has no such", tenant)
        return known, of_unknown_tenants


def _admin_key_digest(text: bytes) -> bytes:
    key = text.strip()
    if not key:
        raise KeyFileError("holds no key")
    return digest(key)


def _sent(headers: Headers) -> Iterator[bytes]:
    """Yields the keys and tokens in the headers that the OpenAI, Anthropic and Azure clients
    send."""
    for name, value in headers:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            yield value[len(_BEARER) :].strip()
        elif name in (b"x-api-key", b"api-key"):
            yield value

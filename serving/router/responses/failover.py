"""Takes over the responses in the background whose router is gone."""

import asyncio
import logging
import time
from collections.abc import Mapping

import msgspec
from starlette.types import ASGIApp

from serving.router.http.in_process import scope_of
from serving.router.responses.background import SCOPE_KEY, RunRequest
from serving.router.responses.runs import Runs
from serving.router.responses.store import Claim, ResponseStore, StoreError
from serving.router.responses.store_calls import StoreCalls
from serving.tenants import Caller, Tenant

SILENT_S = 5.0
"""A response that its router has not reported for this long is lost: it reports each second."""
RECOVERY_S = 4.0
"""The time within which routers report what they run to a store that was away, and before which
nothing in it is taken for lost."""
_PERIOD_S = 1.0
_MOST_CLAIMS = 3
"""After so many routers a response fails: it may be what they end of."""

log = logging.getLogger(__name__)

_decode = msgspec.msgpack.Decoder(RunRequest).decode


class Failover:
    """Has this router go on with what others have left."""

    def __init__(self, store: ResponseStore, call: StoreCalls, runs: Runs) -> None:
        self._store = store
        self._call = call
        self._runs = runs
        self._taken: set[asyncio.Task[None]] = set()

    async def run(self, relay: ASGIApp, path: str, tenants: Mapping[str, Tenant]) -> None:
        """Looks for lost responses from time to time, for as long as it is awaited."""
        well_since_s: float | None = None
        """When the store was first seen well again."""
        while not self._runs.draining:
            await asyncio.sleep(_PERIOD_S)
            try:
                if well_since_s is None or time.monotonic() - well_since_s < RECOVERY_S:
                    await self._call(self._store.report, self._runs.owner, {})
                    well_since_s = well_since_s or time.monotonic()
                    continue
                while claim := await self._call(self._store.claim, self._runs.owner, SILENT_S):
                    task = asyncio.create_task(self._take(claim, relay, path, tenants))
                    self._taken.add(task)
                    task.add_done_callback(self._taken.discard)
            except StoreError as error:
                well_since_s = None
                self._call.note(error)

    async def _take(
        self, claim: Claim, relay: ASGIApp, path: str, tenants: Mapping[str, Tenant]
    ) -> None:
        run = self._runs.go_on(claim)
        tenant, response_id = run.key
        log.warning("response %s is taken over from a router that is gone", response_id)
        try:
            if claim.request and claim.claims <= _MOST_CLAIMS and tenant in tenants:
                request = _decode(claim.request)
                run.request, run.caller = request.body, _caller(tenants[tenant], request)
                scope = scope_of(path, request.headers, {SCOPE_KEY: run})
                await relay(scope, run.receive, run.send)
        finally:
            await self._runs.end(run)


def _caller(tenant: Tenant, request: RunRequest) -> Caller:
    return Caller(tenant, min(tenant.max_priority, request.max_priority), request.key_id)

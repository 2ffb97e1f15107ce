"""The stored responses of a router: continues them, keeps answers, and runs those in the
background."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from serving.router.http.errors import ApiError
from serving.router.responses import errors, objects
from serving.router.responses.expansion import expand, history
from serving.router.responses.failover import Failover
from serving.router.responses.items import Item, kept_input
from serving.router.responses.references import has_references, resolved
from serving.router.responses.runs import Runs
from serving.router.responses.store import (
    ENDED_WELL,
    RUNNING,
    ResponseStore,
    StoredResponse,
    StoreError,
)
from serving.router.responses.store_calls import Kept, StoreCalls
from serving.router.responses.turn import NOT_STORED, TOO_LARGE, Turn, turn_of

PATH = "/v1/responses"
_CALL_TIMEOUT_S = 5.0
"""How long an answer waits for the store at most."""
_SECOND_LOOK_S = 0.1
"""The time after which an unknown id is looked up again: a client may have the last event of a
stream, and continue it at another router, a moment before it is stored."""
_EXPIRE_PERIOD_S = 300.0


class _Head(msgspec.Struct):
    id: str
    status: str


class _Event(msgspec.Struct):
    response: msgspec.Raw


_head = msgspec.json.Decoder(_Head).decode
_event = msgspec.json.Decoder(_Event).decode
_items = msgspec.json.Decoder(list[Item]).decode


class Responses:
    """The facade of this room for one router."""

    def __init__(
        self,
        store: ResponseStore,
        max_body_bytes: int,
        count: Callable[[Kept], None],
    ) -> None:
        """`count` is called once for each answer that was to be stored."""
        self._store = store
        self._max_body_bytes = max_body_bytes
        self._call = StoreCalls(store, count)
        self.runs = Runs(store, self._call)
        self.failover = Failover(store, self._call, self.runs)

    async def open(self, tenant: str, raw: bytes, body: dict[str, Any]) -> Turn:
        """Puts the items that a request refers to and the history that it continues into `body`,
        which is `raw` decoded. Raises ApiError."""
        if has_references(body.get("input")):
            body["input"] = await self._looked_up(tenant, resolved, body["input"], len(raw))
            raw = objects.encoded(body)
        turn = turn_of(tenant, raw, body)
        if turn.previous_id is not None:
            before = await self._looked_up(tenant, history, turn.previous_id, len(raw))
            expand(body, before, self._max_body_bytes)
        if turn.stores and len(raw) > (most := self._store.largest_bytes):
            if turn.background:
                raise errors.background_too_large(most)
            turn.stores, turn.warning = False, TOO_LARGE
            self._call.count("too_large")
        return turn

    async def _looked_up(
        self, tenant: str, look: Callable[..., list[Any]], *arguments: Any
    ) -> list[Any]:
        """Calls `look`, and again after a moment if it does not find something. Raises ApiError."""
        get = partial(self._store.get, tenant)
        call = partial(self._call.for_client, look, get, *arguments, self._max_body_bytes)
        try:
            return await call()
        except ApiError as error:
            if error.status != 404:
                raise
        await asyncio.sleep(_SECOND_LOOK_S)
        return await call()

    async def answered(self, turn: Turn, body: bytes, is_event: bool = False) -> str | None:
        """Keeps the answer to a request: a response object, or the data of an event that has it.
        Returns a warning for the client if it could not be kept. Never raises."""
        if not turn.stores:
            return None
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                kept = await self._call(self._keep, turn, body, is_event)
        except StoreError as error:
            self._call.note(error)
            kept = "failed"
        except Exception as error:  # A request is answered whatever happens here.
            self._call.note(type(error).__name__)
            kept = "failed"
        if kept is not None:
            self._call.count(kept)
        return {"too_large": TOO_LARGE, "failed": NOT_STORED}.get(kept or "")

    def _keep(self, turn: Turn, body: bytes, is_event: bool) -> Kept | None:
        """Runs in the store's thread, so that nothing else waits for the parsing either."""
        try:
            response = bytes(_event(body).response) if is_event else body
            head = _head(response)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # another server's answer, of another form
        if head.status not in ENDED_WELL:
            return None
        stored = StoredResponse(
            turn.tenant, head.id, head.status, kept_input(turn.raw), response, turn.previous_id
        )
        return "stored" if self._store.put(stored) else "too_large"

    async def get(self, tenant: str, response_id: str) -> StoredResponse:
        """Raises ApiError 404."""
        found = await self._call.for_client(self._store.get, tenant, response_id)
        if found is None:
            raise errors.not_found(response_id)
        return found

    async def items(self, tenant: str, response_id: str) -> list[Item]:
        """Returns the input items of the request itself, without its history. Raises ApiError."""
        return _items((await self.get(tenant, response_id)).input)

    async def delete(self, tenant: str, response_id: str) -> None:
        """Raises ApiError 404."""
        if not await self._call.for_client(self._store.delete, tenant, response_id):
            raise errors.not_found(response_id)
        self.runs.abort((tenant, response_id))

    async def cancel(self, tenant: str, response_id: str) -> bytes:
        """Cancels a response in the background, if it still runs: here or at another router.
        Returns the response object. Raises ApiError."""
        found = await self.get(tenant, response_id)
        if not found.background:
            raise errors.not_in_background(response_id)
        if found.status not in RUNNING:
            return found.response
        response = objects.encoded(objects.cancelled(objects.parsed(found.response)))
        cancelled = replace(found, owner="", status="cancelled", response=response)
        if not await self._call.for_client(self._store.advance, cancelled):
            return (await self.get(tenant, response_id)).response  # it has just ended
        self.runs.abort((tenant, response_id))
        return response

    async def expire(self) -> None:
        """Deletes expired responses from time to time, for as long as it is awaited."""
        while True:
            await asyncio.sleep(_EXPIRE_PERIOD_S)
            try:
                await self._call(self._store.expire)
            except StoreError as error:
                self._call.note(error)

    async def close(self) -> None:
        """To be called when no request is served any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                await self.runs.ended()
        await self._call.close(_CALL_TIMEOUT_S)

"""The stored responses of a router: continues them, keeps answers, and runs those in the
background."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import msgspec

from serving.router.http.errors import ApiError
from serving.router.responses import errors, objects
from serving.router.responses.background import BackgroundRun, Key
from serving.router.responses.expansion import (
    MAX_ITEMS,
    BrokenChainError,
    NotContinuableError,
    NotFoundError,
    TooLongError,
    expand,
    history,
)
from serving.router.responses.items import Item, input_items, with_ids
from serving.router.responses.references import UnknownItemError, has_references, resolved
from serving.router.responses.store import (
    ENDED_WELL,
    RUNNING,
    ResponseStore,
    StoredResponse,
    StoreError,
)
from serving.router.responses.turn import NOT_STORED, TOO_LARGE, Turn, turn_of

T = TypeVar("T")
Kept = Literal["stored", "too_large", "failed"]
"""What became of an answer that was to be stored; `failed` is also a read of the store."""

PATH = "/v1/responses"
_CALL_TIMEOUT_S = 5.0
"""How long an answer waits for the store at most."""
_SECOND_LOOK_S = 0.1
"""The time after which an unknown id is looked up again: a client may have the last event of a
stream, and continue it at another router, a moment before it is stored."""
SEEN_PERIOD_S = 1.0
LOST_S = 30.0
"""A running response that its router has not reported for this long is lost."""
RECOVERY_S = 4.0
"""The time within which routers report what they run to a store that was away."""
_END_TIMEOUT_S = 60.0
"""How long a response that has ended waits for a store that is away."""
_EXPIRE_PERIOD_S = 300.0
_LOST = "The router that ran this response has stopped. Send the request again."

log = logging.getLogger(__name__)


class _Head(msgspec.Struct):
    id: str
    status: str


class _Event(msgspec.Struct):
    response: msgspec.Raw


_head = msgspec.json.Decoder(_Head).decode
_event = msgspec.json.Decoder(_Event).decode
_items = msgspec.json.Decoder(list[Item]).decode


class Responses:
    """The facade of this room for one router. Calls the store in a thread of its own."""

    def __init__(
        self,
        store: ResponseStore,
        max_body_bytes: int,
        count: Callable[[Kept], None],
    ) -> None:
        """`count` is called once for each answer that was to be stored."""
        self._store = store
        self._max_body_bytes = max_body_bytes
        self._count = count
        self._thread = ThreadPoolExecutor(1, "responses")
        self._failing = False
        self._runs: dict[Key, BackgroundRun] = {}
        self._reporting: asyncio.Task[None] | None = None
        self._advancing: set[asyncio.Task[bool | None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def open(self, tenant: str, raw: bytes, body: dict[str, Any]) -> Turn:
        """Puts the items that a request refers to and the history that it continues into `body`,
        which is `raw` decoded. Raises ApiError."""
        if has_references(body.get("input")):
            most = self._max_body_bytes - len(raw)
            body["input"] = await self._referred(tenant, body["input"], most)
            raw = objects.encoded(body)
        turn = turn_of(tenant, raw, body)
        if turn.previous_id is not None:
            before = await self._history(tenant, turn.previous_id, self._max_body_bytes - len(raw))
            try:
                expand(body, before)
            except TooLongError:
                raise errors.history_too_long(MAX_ITEMS, self._max_body_bytes) from None
        if turn.stores and len(raw) > (most := self._store.largest_bytes):
            if turn.background:
                raise errors.background_too_large(most)
            turn.stores, turn.warning = False, TOO_LARGE
            self._count("too_large")
        return turn

    async def _referred(self, tenant: str, items: list[Any], max_bytes: int) -> list[Any]:
        get = partial(self._store.get, tenant)
        for is_second in (False, True):
            try:
                return await self._call(resolved, get, items, max_bytes)
            except UnknownItemError as error:
                if is_second:
                    raise errors.item_not_found(str(error)) from None
                await asyncio.sleep(_SECOND_LOOK_S)
            except TooLongError:
                raise errors.items_too_large(self._max_body_bytes) from None
            except StoreError as error:
                raise self._failed(error) from None
        raise AssertionError

    async def _history(self, tenant: str, response_id: str, max_bytes: int) -> list[Any]:
        get = partial(self._store.get, tenant)
        for is_second in (False, True):
            try:
                return await self._call(history, get, response_id, max_bytes)
            except NotFoundError:
                if is_second:
                    raise errors.previous_not_found(response_id) from None
                await asyncio.sleep(_SECOND_LOOK_S)
            except BrokenChainError:
                raise errors.chain_broken(response_id) from None
            except NotContinuableError as error:
                raise errors.not_continuable(response_id, str(error)) from None
            except TooLongError:
                raise errors.history_too_long(MAX_ITEMS, self._max_body_bytes) from None
            except StoreError as error:
                raise self._failed(error) from None
        raise AssertionError

    async def answered(self, turn: Turn, body: bytes, is_event: bool = False) -> str | None:
        """Keeps the answer to a request: a response object, or the data of an event that has it.
        Returns a warning for the client if it could not be kept. Never raises."""
        if not turn.stores:
            return None
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                kept = await self._call(self._keep, turn, body, is_event)
        except StoreError as error:
            self._note(error)
            kept = "failed"
        except Exception as error:  # A request is answered whatever happens here.
            self._note(type(error).__name__)
            kept = "failed"
        if kept is not None:
            self._count(kept)
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
        kept_input = _kept_input(turn.raw)
        stored = StoredResponse(
            turn.tenant, head.id, head.status, kept_input, response, turn.previous_id
        )
        return "stored" if self._store.put(stored) else "too_large"

    async def get(self, tenant: str, response_id: str) -> StoredResponse:
        """Raises ApiError 404."""
        found = await self._found(tenant, response_id)
        if _seems_lost(found):
            await asyncio.sleep(RECOVERY_S)
            found = await self._found(tenant, response_id)
            if _seems_lost(found):
                response = objects.failed(objects.parsed(found.response), _LOST)
                lost = replace(found, status="failed", response=objects.encoded(response))
                if await self._replaced(lost):
                    return lost
                found = await self._found(tenant, response_id)
        return found

    async def _found(self, tenant: str, response_id: str) -> StoredResponse:
        try:
            found = await self._call(self._store.get, tenant, response_id)
        except StoreError as error:
            raise self._failed(error) from None
        if found is None:
            raise errors.not_found(response_id)
        return found

    async def _replaced(self, stored: StoredResponse) -> bool:
        """Returns False if the response no longer runs. Raises ApiError."""
        try:
            return await self._call(self._store.advance, stored)
        except StoreError as error:
            raise self._failed(error) from None

    async def items(self, tenant: str, response_id: str) -> list[Item]:
        """Returns the input items of the request itself, without its history. Raises ApiError."""
        return _items((await self.get(tenant, response_id)).input)

    async def delete(self, tenant: str, response_id: str) -> None:
        """Raises ApiError 404."""
        try:
            was_there = await self._call(self._store.delete, tenant, response_id)
        except StoreError as error:
            raise self._failed(error) from None
        if not was_there:
            raise errors.not_found(response_id)
        self._abort((tenant, response_id))

    async def cancel(self, tenant: str, response_id: str) -> bytes:
        """Cancels a response in the background, if it still runs: here or at another router.
        Returns the response object. Raises ApiError."""
        found = await self.get(tenant, response_id)
        if not found.background:
            raise errors.not_in_background(response_id)
        if found.status not in RUNNING:
            return found.response
        response = objects.encoded(objects.cancelled(objects.parsed(found.response)))
        if not await self._replaced(replace(found, status="cancelled", response=response)):
            return (await self._found(tenant, response_id)).response  # it has just ended
        self._abort((tenant, response_id))
        return response

    def _abort(self, key: Key) -> None:
        if (run := self._runs.get(key)) is not None:
            run.abort()

    # Responses in the background

    async def begin(self, turn: Turn, model: str) -> BackgroundRun:
        """Stores a response as queued. Raises ApiError."""
        request = objects.parsed(turn.raw)
        response = objects.queued(request, f"resp_{uuid.uuid4().hex}", model, int(time.time()))
        run = BackgroundRun(turn.tenant, response, _kept_input(turn.raw))
        try:
            if not await self._call(self._store.put, _stored(run)):
                raise errors.background_too_large(self._store.largest_bytes)
        except StoreError as error:
            raise self._failed(error) from None
        self._runs[run.key] = run
        self._idle.clear()
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._report())
        return run

    def placed(self, run: BackgroundRun) -> None:
        """Notes that a replica has the request."""
        if run.response["status"] == "queued":
            run.response = objects.in_progress(run.response)
            task = asyncio.create_task(self._advance(_stored(run)))
            self._advancing.add(task)
            task.add_done_callback(self._advancing.discard)

    async def end(self, run: BackgroundRun) -> None:
        """Stores what became of a response. Never raises."""
        if run.status:
            run.response = objects.ended(run.response, run.status, run.body)
        elif run.aborted and not run.stopped_by_router:
            run.response = objects.cancelled(run.response)
        else:
            run.response = objects.failed(run.response, _LOST)
        stored = _stored(run)
        if stored.size_bytes > self._store.largest_bytes:
            self._count("too_large")
            emptied = {**run.response, "output": [], "usage": None}
            run.response = objects.failed(emptied, f"Not kept: {TOO_LARGE}.")
            await self._finish(_stored(run))
        elif (done := await self._finish(stored)) is not False:
            self._count("failed" if done is None else "stored")
        self._runs.pop(run.key, None)
        if not self._runs and self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
            self._idle.set()

    async def _finish(self, stored: StoredResponse) -> bool | None:
        """Is `_advance` with patience: a whole answer would be lost."""
        give_up_s = time.monotonic() + _END_TIMEOUT_S
        while (done := await self._advance(stored)) is None:
            if self._closed or time.monotonic() > give_up_s:
                break
            await asyncio.sleep(SEEN_PERIOD_S)
        return done

    async def _advance(self, stored: StoredResponse) -> bool | None:
        """Returns False if the response no longer runs, and None if the store failed."""
        try:
            return await self._call(self._store.advance, stored)
        except StoreError as error:
            self._note(error)
            return None

    async def _report(self) -> None:
        """Reports what runs here to the store, and ends what was cancelled or deleted elsewhere."""
        while True:
            await asyncio.sleep(SEEN_PERIOD_S)
            running = list(self._runs)
            with suppress(StoreError):
                goes_on = await self._call(self._store.seen, running)
                for key in running:
                    if key not in goes_on:
                        self._abort(key)

    async def expire(self) -> None:
        """Deletes expired responses from time to time, for as long as it is awaited."""
        while True:
            await asyncio.sleep(_EXPIRE_PERIOD_S)
            try:
                await self._call(self._store.expire)
            except StoreError as error:
                self._note(error)

    async def drain(self, timeout_s: float) -> None:
        """Returns when no response runs in the background; after the timeout they end as failed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        for run in self._runs.values():
            run.abort(stopped_by_router=True)

    async def close(self) -> None:
        """To be called when no request is served any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                await self._idle.wait()
                await self._call(self._store.close)
        self._closed = True
        self._thread.shutdown(wait=False)

    async def _call(self, call: Callable[..., T], *arguments: Any) -> T:
        if self._closed:
            raise StoreError("the router has stopped")
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._thread, call, *arguments)
        self._failing = False
        return done

    def _failed(self, error: StoreError) -> ApiError:
        self._note(error)
        self._count("failed")
        return errors.store_failed()

    def _note(self, why: object) -> None:
        if not self._failing:
            log.error("responses cannot be stored: %s", why)
        self._failing = True


def _seems_lost(found: StoredResponse) -> bool:
    return found.status in RUNNING and found.silent_s > LOST_S


def _kept_input(raw: bytes) -> bytes:
    return objects.encoded(with_ids(input_items(objects.parsed(raw).get("input"))))


def _stored(run: BackgroundRun) -> StoredResponse:
    tenant, response_id = run.key
    response, status = objects.encoded(run.response), run.response["status"]
    previous_id = run.response["previous_response_id"]
    return StoredResponse(
        tenant, response_id, status, run.kept_input, response, previous_id, background=True
    )

"""The responses that this router runs in the background, and those of others whose streams it
relays."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

from serving.router.responses import errors, objects
from serving.router.responses.background import BackgroundRun
from serving.router.responses.event_log import EventLog, told
from serving.router.responses.items import kept_input
from serving.router.responses.store import NO_NEWS, RUNNING, Claim, Key, ResponseStore, StoreError
from serving.router.responses.store_calls import StoreCalls
from serving.router.responses.turn import TOO_LARGE, Turn

SEEN_PERIOD_S = 1.0
_FLUSH_PERIOD_S = 0.02
"""The least time between two writes of events: the delay that they are bounded by, and 50 writes
a second however many streams there are."""
_POLL_PERIOD_S = 0.1
"""How often the store is asked for events of a response that another router runs."""
_COMMENT = b": waiting\n\n"
_COMMENT_PERIOD_S = 15.0
"""After so long without an event a comment keeps the connection from looking idle."""
_STORE_TIMEOUT_S = 60.0
"""How long a response that has ended, or a client, waits for a store that is away."""
LOST = "The router that ran this response has stopped. Send the request again."

log = logging.getLogger(__name__)


class Runs:
    """Reports to the store what runs, with the events of streams, and tells clients of those."""

    def __init__(self, store: ResponseStore, call: StoreCalls) -> None:
        self.owner = uuid.uuid4().hex
        """The name of this router in the store."""
        self._store = store
        self._call = call
        self._runs: dict[Key, BackgroundRun] = {}
        self._reporting: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._advancing: set[asyncio.Task[bool | None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        """Whether this router goes, and takes nothing over."""

    async def begin(
        self, turn: Turn, model: str, repeated: objects.JsonObject, request: bytes
    ) -> BackgroundRun:
        """Stores a response as queued, with the `request` by which another router could run it.
        `repeated` has the fields of the client's that a response repeats. Raises ApiError."""
        assert turn.response_id is not None
        response = objects.queued(repeated, turn.response_id, model, int(time.time()))
        events = EventLog(self._news.set) if turn.streams else None
        if events is not None:
            events.write("response.created", response)
            events.write("response.queued", response)
        run = BackgroundRun(self.owner, turn.tenant, response, kept_input(turn.raw), events)
        news = NO_NEWS if events is None else events.news()
        if not await self._call.for_client(self._store.put, run.stored, request, news.events):
            raise errors.background_too_large(self._store.largest_bytes)
        if events is not None:
            events.stored(news)
        self._add(run)
        return run

    def go_on(self, claim: Claim) -> BackgroundRun:
        """Returns the run of a response that this router has taken over."""
        events = EventLog(self._news.set, claim.events) if claim.events else None
        stored = claim.stored
        response = objects.parsed(stored.response)
        run = BackgroundRun(self.owner, stored.tenant, response, stored.input, events)
        self._add(run)
        return run

    def _add(self, run: BackgroundRun) -> None:
        self._runs[run.key] = run
        self._idle.clear()
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._report())

    def placed(self, run: BackgroundRun) -> None:
        """Notes that a replica has the request."""
        if run.response["status"] == "queued":
            run.response = {**run.response, "status": "in_progress"}
            if run.log is not None:
                run.log.write("response.in_progress", run.response)
            task = asyncio.create_task(self._advance(run))
            self._advancing.add(task)
            task.add_done_callback(self._advancing.discard)

    async def end(self, run: BackgroundRun) -> None:
        """Stores what became of a response. Never raises."""
        if self._runs.get(run.key) is not run:
            return
        if not run.stopped_by_router:  # else another router goes on with it
            await self._end(run)
        self._runs.pop(run.key, None)
        if run.log is not None:
            run.log.wake()
        if not self._runs and self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
            self._idle.set()

    async def _end(self, run: BackgroundRun) -> None:
        run.response = _ended(run)
        size_bytes = run.stored.size_bytes + (run.log.size_bytes if run.log else 0)
        is_too_large = run.is_too_large or size_bytes > self._store.largest_bytes
        if is_too_large:
            self._call.count("too_large")
            emptied = {**run.response, "output": [], "usage": None}
            run.response = objects.failed(emptied, f"Not kept: {TOO_LARGE}.")
        if run.log is not None and run.response["status"] != "cancelled":
            run.log.write(f"response.{run.response['status']}", run.response)
        done = await self._finish(run)
        if done is not False and not is_too_large:
            self._call.count("failed" if done is None else "stored")

    async def _finish(self, run: BackgroundRun) -> bool | None:
        """Is `_advance` with patience: a whole answer would be lost."""
        give_up_s = time.monotonic() + _STORE_TIMEOUT_S
        while (done := await self._advance(run)) is None:
            if self._call.closed or time.monotonic() > give_up_s:
                break
            await asyncio.sleep(SEEN_PERIOD_S)
        return done

    async def _advance(self, run: BackgroundRun) -> bool | None:
        """Returns False if the response no longer runs here, and None if the store failed."""
        news = NO_NEWS if run.log is None else run.log.news()
        try:
            done = await self._call(self._store.advance, run.stored, news)
        except StoreError as error:
            self._call.note(error)
            return None
        if done and run.log is not None:
            run.log.stored(news)
        return done

    async def _report(self) -> None:
        """Reports what runs here to the store, with its events, and ends what was cancelled or
        deleted elsewhere, or taken over."""
        all_due_s = time.monotonic() + SEEN_PERIOD_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(all_due_s - time.monotonic()):
                    await self._news.wait()
            self._news.clear()
            running = {key: run.log.news() for key, run in self._runs.items() if run.log}
            if time.monotonic() >= all_due_s:
                all_due_s = time.monotonic() + SEEN_PERIOD_S
                running |= {key: NO_NEWS for key in self._runs if key not in running}
            else:
                running = {key: news for key, news in running.items() if news.events}
            if not running:
                continue
            try:
                goes_on = await self._call(self._store.report, self.owner, running)
            except StoreError as error:
                self._call.note(error)
                self._news.set()
                await asyncio.sleep(SEEN_PERIOD_S)
                continue
            for key, news in running.items():
                if (run := self._runs.get(key)) is None:
                    continue
                if key not in goes_on:
                    run.abort()
                elif run.log is not None:
                    run.log.stored(news)
                    if run.log.size_bytes > self._store.largest_bytes:
                        run.is_too_large = True
                        run.abort()
            await asyncio.sleep(_FLUSH_PERIOD_S)

    def abort(self, key: Key) -> None:
        """Ends a response that was cancelled or deleted, if it runs here."""
        if (run := self._runs.get(key)) is not None:
            run.abort()

    async def follow(self, tenant: str, response_id: str, first: int) -> AsyncIterator[bytes]:
        """Returns the events of a stream from that number on, as they come, whichever router runs
        it. What it yields ends with the stream; it raises StoreError if it must end before. Raises
        ApiError."""
        key = tenant, response_id
        found = await self._call.for_client(self._store.events, *key, 0)
        if found is None:
            raise errors.not_found(response_id)
        if not found[1]:
            raise errors.not_streamed(response_id)
        return self._events(key, first)

    async def _events(self, key: Key, first: int) -> AsyncIterator[bytes]:
        said_s = well_s = time.monotonic()
        while True:
            events: list[bytes] = []
            if (run := self._runs.get(key)) is not None and run.log is not None:
                events = await run.log.from_(first, _COMMENT_PERIOD_S)
            else:
                try:
                    found = await self._call(self._store.events, *key, first)
                    well_s = time.monotonic()
                    if found is None or not (found[1] or found[0] in RUNNING):
                        return
                    events = found[1]
                except StoreError as error:
                    if self._call.closed or time.monotonic() - well_s > _STORE_TIMEOUT_S:
                        raise
                    self._call.note(error)
                if not events:
                    if self.draining:
                        raise StoreError("the router stops")
                    await asyncio.sleep(_POLL_PERIOD_S)
            if events:
                first += len(events)
                said_s = time.monotonic()
                yield told(events)
            elif time.monotonic() - said_s >= _COMMENT_PERIOD_S:
                said_s = time.monotonic()
                yield _COMMENT

    async def ended(self) -> None:
        """Returns when no response runs here."""
        await self._idle.wait()

    async def drain(self, timeout_s: float) -> None:
        """Returns when no response runs here; after the timeout other routers go on with them."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.ended()
        for run in self._runs.values():
            run.leave()


def _ended(run: BackgroundRun) -> objects.JsonObject:
    """Returns the response object of what became of a run."""
    events = run.log
    if events is not None and events.final is not None:
        return objects.with_identity(run.response, events.final)
    if events is not None and events.error is not None:
        return objects.failed(run.response, *events.error)
    if run.body or (run.status and not run.aborted):
        return objects.ended(run.response, run.status, run.body)
    return objects.cancelled(run.response) if run.aborted else objects.failed(run.response, LOST)

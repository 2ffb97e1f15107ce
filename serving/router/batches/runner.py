"""Runs the batches of the store that no other router runs."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import httpx
from starlette.types import ASGIApp

from serving.batch import lines, requests
from serving.batch.requests import InputError
from serving.batch.results import Results, ResultsError
from serving.batch.runner import Runner
from serving.batch.tally import Tally
from serving.router.batches.in_process import InProcess
from serving.router.batches.line import BatchLine
from serving.router.batches.objects import (
    ENDED,
    Batch,
    Creator,
    Errors,
    FileObject,
    LineError,
    RequestCounts,
)
from serving.router.batches.store import BatchStore
from serving.tenants import Caller, Tenant

MOST_REQUESTS = 50_000
"""Requests of a batch, as in OpenAI's API."""
PERIOD_S = 2.0
"""How often a router looks for batches to run, and how those that it runs are doing."""
_BATCHES_AT_ONCE = 4
_LINES_AT_ONCE = 1024
"""Requests of one batch that are placed or wait to be. Each takes some 20 KiB beside its body."""
_TRIES = 5
_AGAIN_S = 30.0
"""Time after which a batch that stopped is tried again."""
_EXPIRE_PERIOD_S = 300.0
_DRAIN_S = 60.0
_STOPS = "the router stops"

Key = tuple[str, str]
"""The tenant and id of a batch."""
_Outcome = Literal["completed", "expired", "cancelled"]

log = logging.getLogger(__name__)


class BatchRunner:
    """Takes over batches one after the other, for as long as `run` is awaited. Every router has
    one; a batch whose router is gone is continued by another."""

    def __init__(self, store: BatchStore, relay: ASGIApp, tenants: Mapping[str, Tenant]) -> None:
        """`tenants` are those that are known, by name; the batches of others wait for them."""
        self.store = store
        self._relay = relay
        self._tenants = tenants
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._runners: dict[Key, Runner] = {}
        self._not_before_s: dict[Key, float] = {}
        self._look = asyncio.Event()
        self._draining = False
        self._failing = False

    def look(self) -> None:
        """Says that there is something to do."""
        self._look.set()

    async def run(self) -> None:
        """Starts batches that no one runs, until the router drains."""
        while not self._draining:
            await self._start()
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await self._look.wait()

    async def expire(self) -> None:
        """Deletes what has expired from time to time, for as long as it is awaited."""
        while True:
            await asyncio.sleep(_EXPIRE_PERIOD_S)
            try:
                await asyncio.to_thread(self.store.expire)
            except OSError as error:
                self._note(error)

    async def drain(self, timeout_s: float) -> None:
        """Sends no further requests, and returns when those that were sent are recorded; after
        the timeout, or a minute, they are broken off. Other routers go on with the batches."""
        self._draining = True
        self.look()
        for runner in self._runners.values():
            runner.stop(_STOPS)
        tasks = list(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=min(timeout_s, _DRAIN_S))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> None:
        now_s = self.store.clock()
        try:
            unfinished = await asyncio.to_thread(self.store.unfinished)
            self._failing = False
        except OSError as error:
            self._note(error)
            return
        for key in unfinished:
            if len(self._running) >= _BATCHES_AT_ONCE or self._draining:
                break
            tenant = self._tenants.get(key[0])
            if key in self._running or tenant is None or self._not_before_s.get(key, 0.0) > now_s:
                continue
            self._running[key] = asyncio.create_task(self._take(tenant, key[1]))

    async def _take(self, tenant: Tenant, batch_id: str) -> None:
        key = tenant.name, batch_id
        try:
            with self.store.claimed(*key) as is_ours:
                if is_ours and not await self._go_on(tenant, batch_id):
                    self._not_before_s[key] = self.store.clock() + _AGAIN_S
        except OSError as error:
            self._note(error)
            self._not_before_s[key] = self.store.clock() + _AGAIN_S
        except Exception:
            log.exception("batch %s stopped", batch_id)
            self._not_before_s[key] = self.store.clock() + _AGAIN_S
        finally:
            del self._running[key]

    def _note(self, error: OSError) -> None:
        if not self._failing:
            log.error("batches cannot be read or written: %s", error.strerror or error)
        self._failing = True

    async def _go_on(self, tenant: Tenant, batch_id: str) -> bool:
        """Runs a batch from where it is. Returns False if it must be tried again later."""
        store, of = self.store, tenant.name
        batch = await asyncio.to_thread(store.batch, of, batch_id)
        if batch is None or batch.status in ENDED:
            store.input(of, batch_id).unlink(missing_ok=True)
            return True
        is_cancelled = batch.cancelling_at is not None
        with store.input(of, batch_id).open("rb") as file:
            try:
                offsets = await asyncio.to_thread(
                    requests.index, file, "input", url=batch.endpoint, most=MOST_REQUESTS
                )
                results = await asyncio.to_thread(
                    Results,
                    store.content(of, batch.output_id),
                    offsets,
                    store.content(of, batch.errors_id),
                )
            except (InputError, ResultsError) as error:
                await asyncio.to_thread(store.end, of, self._failed(batch, error))
                return True
            with results:
                tally = Tally(len(offsets), len(results.answered), len(results.failed))
                if batch.in_progress_at is None and not is_cancelled:
                    batch.in_progress_at = self._now()
                read = partial(requests.read_at, file)
                left = [
                    (custom_id, offset)
                    for custom_id, offset in offsets.items()
                    if custom_id not in results.answered and custom_id not in results.failed
                ]
                outcome = await self._answer(tenant, batch, results, tally, left, read)
                await asyncio.to_thread(results.sync)
                if outcome is None:
                    return False
                await self._finish(of, batch, tally, outcome)
        return True

    async def _answer(
        self,
        tenant: Tenant,
        batch: Batch,
        results: Results,
        tally: Tally,
        left: list[tuple[str, int]],
        read: Callable[[int, str], lines.Request],
    ) -> _Outcome | None:
        """Answers the lines that are left. Returns how the batch ended; None if it goes on
        later."""
        key = tenant.name, batch.id
        creator = await asyncio.to_thread(self.store.creator, *key)
        transport = InProcess(self._relay, BatchLine(_caller(tenant, creator), batch.id))
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            runner = self._runners[key] = Runner(
                client, results, tally, tries=_TRIES, is_patient=True
            )
            asked = (read(offset, custom_id) for custom_id, offset in left)
            sending = asyncio.create_task(runner.run(asked, min(_LINES_AT_ONCE, len(left))))
            try:
                while True:
                    if (ended := await self._watch(key, batch, tally)) is not None:
                        sending.cancel()
                        await asyncio.gather(sending, return_exceptions=True)
                        break
                    done, _ = await asyncio.wait([sending], timeout=PERIOD_S)
                    if done:
                        sending.result()
                        break
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                del self._runners[key]
        if ended == "expired":
            await asyncio.to_thread(_expire, results, tally, [custom_id for custom_id, _ in left])
        if ended is None and runner.stopped is not None:
            if runner.stopped != _STOPS:
                log.warning("batch %s goes on later: %s", batch.id, runner.stopped)
            return None
        return ended or "completed"

    async def _watch(self, key: Key, batch: Batch, tally: Tally) -> _Outcome | None:
        """Keeps the progress. Returns why the batch ends early, if it does."""
        counts = _counts(tally)
        if counts != batch.request_counts or batch.status != "in_progress":
            batch.request_counts = counts
            batch.status = "in_progress"
            await asyncio.to_thread(self.store.put_batch, key[0], batch)
        stored = await asyncio.to_thread(self.store.batch, *key)
        if stored is None or stored.cancelling_at is not None:
            batch.cancelling_at = None if stored is None else stored.cancelling_at
            return "cancelled"
        return "expired" if self.store.clock() >= batch.expires_at else None

    async def _finish(self, tenant: str, batch: Batch, tally: Tally, outcome: _Outcome) -> None:
        batch.request_counts = _counts(tally)
        batch.finalizing_at = self._now()
        batch.status = "finalizing"
        await asyncio.to_thread(self.store.put_batch, tenant, batch)
        await asyncio.to_thread(self._publish, tenant, batch)
        batch.status = outcome
        setattr(batch, f"{outcome}_at", self._now())
        await asyncio.to_thread(self.store.end, tenant, batch)
        log.info("batch %s of %s is %s", batch.id, tenant, outcome)

    def _publish(self, tenant: str, batch: Batch) -> None:
        """Makes the files of a batch known that have something in them."""
        store = self.store
        wanted = batch.output_expires_after
        keep_s = store.keep_s if wanted is None else min(store.keep_s, wanted.seconds)
        for file_id, kind in ((batch.output_id, "output"), (batch.errors_id, "error")):
            content = store.content(tenant, file_id)
            if not content.exists() or not (size := content.stat().st_size):
                content.unlink(missing_ok=True)
                continue
            now_s = self._now()
            file = FileObject(
                id=file_id,
                bytes=size,
                created_at=now_s,
                expires_at=now_s + keep_s,
                filename=f"{batch.id}_{kind}.jsonl",
                purpose="batch_output",
            )
            store.put_file(tenant, file)
            setattr(batch, f"{kind}_file_id", file_id)

    def _failed(self, batch: Batch, error: InputError | ResultsError) -> Batch:
        mistakes = getattr(error, "mistakes", ())
        errors = [LineError("invalid_line", one.message, one.line) for one in mistakes]
        batch.errors = Errors(errors or [LineError("invalid_input", str(error))])
        batch.status, batch.failed_at = "failed", self._now()
        return batch

    def _now(self) -> int:
        return int(self.store.clock())


def _caller(tenant: Tenant, creator: Creator) -> Caller:
    return Caller(
        tenant,
        tenant.max_priority,
        creator.key_id,
        None if creator.models is None else frozenset(creator.models),
        None if creator.endpoints is None else tuple(creator.endpoints),
    )


def _expire(results: Results, tally: Tally, left: list[str]) -> None:
    """Records what was not answered in time."""
    done = results.answered | results.failed
    for custom_id in left:
        if custom_id not in done:
            message = "This request was not executed before the batch expired."
            results.append(lines.failed(custom_id, "batch_expired", message))
            tally.count_failure(custom_id, message)


def _counts(tally: Tally) -> RequestCounts:
    return RequestCounts(tally.total, tally.all_answered, tally.all_failed)

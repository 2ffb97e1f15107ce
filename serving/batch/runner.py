"""Sends a batch's requests to a service, many at a time, until each is answered or has failed for
good."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from serving.batch import lines, retry
from serving.batch.lines import Answer, Request
from serving.batch.results import Results
from serving.batch.tally import Tally

_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 3600
"""Timeout of a whole answer: Magistral's 40,960 tokens at 12 tokens a second."""
_SYNC_EVERY_S = 5
_UNAVAILABLE = (429, 503)
"""Statuses of a service that cannot take requests now; any other status is a sign of life."""

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
)
"""Keep-alive settings with which a vanished machine is noticed in two minutes, not after the read
timeout."""


class ServiceError(Exception):
    """The service as a whole cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Failure:
    """A try failed in a way that may not recur."""

    message: str
    retry_after_s: float = 0.0
    is_unavailable: bool = False
    """Whether the service can take no requests now."""


def connect(url: str, api_key: str | None, concurrency: int) -> httpx.AsyncClient:
    """A client of the service at `url` for that many concurrent requests."""
    transport_limits = httpx.Limits(
        max_connections=concurrency, max_keepalive_connections=concurrency
    )
    headers = {"content-type": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx.Timeout(_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S, write=None, pool=None),
        transport=httpx.AsyncHTTPTransport(limits=transport_limits, socket_options=_KEEPALIVE),
    )


async def check_service(client: httpx.AsyncClient) -> None:
    """Raises ServiceError if the service does not answer, does not speak OpenAI's API, or rejects
    the key."""
    url = str(client.base_url).rstrip("/")
    try:
        response = await client.get("/v1/models", timeout=_CONNECT_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(
            f"nothing answers at {url} ({describe(error)}). Start a service with `make serve`, "
            "say where one is with --url, or run a model here with --model."
        ) from None
    status = response.status_code
    if status == 401:
        raise ServiceError(key_refused(response.content))
    if not response.is_success and not retry.is_worth_retrying(status):
        raise ServiceError(
            f"{url}/v1/models answers {status}: --url must be the service's address, without /v1."
        )


class Runner:
    """Runs requests against a service. `stopped` is the reason why lines were not completed, if
    any.

    A request has `tries`, after which it is recorded as failed; with `is_patient`, tries at a time
    at which the service can take no requests do not count. If the service gave no sign of life
    while a request used up its tries, the run stops with that as the reason.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        results: Results,
        tally: Tally,
        *,
        tries: int,
        is_patient: bool = False,
    ) -> None:
        self._client = client
        self._results = results
        self._tally = tally
        self._tries = tries
        self._is_patient = is_patient
        self._stop = asyncio.Event()
        self.stopped: str | None = None

    async def run(self, requests: Iterator[Request], concurrency: int) -> None:
        """Returns when every request is recorded or the run has stopped. Raises OSError if an
        answer cannot be written, and the exceptions of `requests`."""
        self._tally.started_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                sync = tasks.create_task(self._sync_regularly())
                async with asyncio.TaskGroup() as workers:
                    for _ in range(concurrency):
                        workers.create_task(self._work(requests))
                        await asyncio.sleep(0)  # what else the event loop does goes on
                sync.cancel()
        except* Exception as group:
            raise first(group) from None

    async def _sync_regularly(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            await asyncio.to_thread(self._results.sync)

    async def _work(self, requests: Iterator[Request]) -> None:
        for request in requests:
            await self._answer(request)
            if self.stopped is not None:
                return

    async def _answer(self, request: Request) -> None:
        started_s = time.monotonic()
        failures = tries = 0
        while self.stopped is None:
            outcome = await self._try(request)
            if isinstance(outcome, Answer):
                self._results.append(outcome)
                return
            failures += 1
            tries += not (self._is_patient and outcome.is_unavailable)
            self._tally.trouble = outcome.message
            if tries == self._tries and self.stopped is None:
                self._fail(request, outcome.message, started_s)
                return
            await self._pause(retry.wait_s(failures, outcome.retry_after_s, random.random()))

    def _fail(self, request: Request, reason: str, started_s: float) -> None:
        message = f"gave up after {self._tries} tries; the last: {reason}"
        self._results.append(lines.failed(request.custom_id, "tries_exhausted", message))
        self._tally.count_failure(request.custom_id, message)
        last_s = self._tally.last_response_s
        if last_s is None or last_s < started_s:
            self.stop(f"nothing was answered in {self._tries} tries of a line; {reason}")

    async def _try(self, request: Request) -> Answer | Failure:
        try:
            response = await self._client.post(request.url, content=bytes(request.body))
        except httpx.HTTPError as error:
            return Failure(f"no answer ({describe(error)})")
        status, body = response.status_code, response.content
        if status not in _UNAVAILABLE:
            self._tally.last_response_s = time.monotonic()
        if status == 401:
            self.stop(key_refused(body))
            return Failure("401")
        message = f"{status}: {lines.error_message(body)}" if not response.is_success else ""
        if retry.is_worth_retrying(status):
            header = response.headers.get("retry-after")
            retry_after_s = retry.retry_after_s(header, datetime.now(UTC))
            return Failure(message, retry_after_s, status in _UNAVAILABLE)
        if response.is_success:
            try:
                self._tally.count_answer(lines.output_tokens(body))
            except ValueError as error:
                return Failure(f"the answer is not a JSON object: {error}")
        else:
            body = lines.error_body(body)
            self._tally.count_failure(request.custom_id, message)
        request_id = response.headers.get("x-request-id", "")
        return lines.answered(request.custom_id, status, request_id, body)

    async def _pause(self, seconds: float) -> None:
        """Waits for the delay, or until the run stops."""
        self._tally.waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
        finally:
            self._tally.waiting -= 1

    def stop(self, reason: str) -> None:
        """Sends no further requests. The run ends once those that were sent are recorded."""
        self.stopped = self.stopped or reason
        self._stop.set()


def key_refused(body: bytes) -> str:
    return (
        f"the service refuses the API key (401: {lines.error_message(body)[:200]}). "
        "Name the environment variable that holds one with --api-key-env."
    )


def describe(error: Exception) -> str:
    """The message of an httpx error, some of which have none."""
    return str(error) or type(error).__name__


def first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error

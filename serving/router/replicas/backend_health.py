"""Polls an external server's list of models to see whether it is up."""

import asyncio
import json
import logging
from collections.abc import Callable

from serving.router.replicas.backend import Backend
from serving.router.replicas.replica import ReplicaInfo
from serving.router.replicas.upstream import ConnectionPool, UpstreamError, ask

PERIOD_S = 5.0
"""Time between two checks."""

_TIMEOUT_S = 10
_FAILURES_UNTIL_DOWN = 2
"""Consecutive failures after which the server counts as down, so that a busy server may miss one
check."""

_BASE_URL = "check base_url, which mostly ends in /v1"
_NAMES_SHOWN = 8

log = logging.getLogger(__name__)


class BackendHealth:
    """Calls `listener` with the server as the only replica when it comes up, and with none when it
    goes down. Raises RuntimeError if its key is missing."""

    def __init__(
        self,
        backend: Backend,
        listener: Callable[[list[ReplicaInfo]], object],
        period_s: float = PERIOD_S,
    ) -> None:
        self._model = backend.model
        self._listed: list[str] | None = None
        self._name = f"{backend.model} at {backend.host}:{backend.port}"
        self._replica = ReplicaInfo(
            f"{backend.host}:{backend.port}",
            backend.host,
            backend.port,
            backend.context_tokens,
            tls=backend.tls,
        )
        self._head = b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (
            backend.path("/v1/models"),
            backend.host_header,
            backend.authorization,
        )
        self._pool = ConnectionPool(backend.host, backend.port, _TIMEOUT_S, backend.tls)
        self._listener = listener
        self._period_s = period_s

    async def run(self) -> None:
        """Checks the server once per period until cancelled."""
        published: str | None = None  # the last problem published; "" while up
        failures = 0
        try:
            while True:
                problem = await self._problem()
                failures = failures + 1 if problem else 0
                still_up = published == "" and failures < _FAILURES_UNTIL_DOWN
                if problem != published and not still_up:
                    published = problem
                    state = f"down: {problem}" if problem else f"up{self._unlisted()}"
                    log.warning("%s is %s", self._name, state)
                    self._listener([] if problem else [self._replica])
                await asyncio.sleep(self._period_s)
        finally:
            self._pool.close()

    async def _problem(self) -> str:
        """Returns what is wrong with the server; empty if nothing is."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, body = await ask(self._pool, self._head, b"")
        except UpstreamError as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {_TIMEOUT_S} s"
        if status in (401, 403):
            return f"it answers {status}: check the key in the variable that api_key_env names"
        if status == 404:
            return f"it answers 404: {_BASE_URL}"
        if status != 200:
            return f"it answers {status}"
        self._listed = listed_models(body)
        return f"its answer lists no models: {_BASE_URL}" if self._listed is None else ""

    def _unlisted(self) -> str:
        """Returns what to say if the server does not list the model. It may serve it all the same:
        llama.cpp serves its one model under any name."""
        listed = self._listed or []
        if {self._model, f"{self._model}:latest"} & set(listed):
            return ""
        names = ", ".join(listed[:_NAMES_SHOWN]) or "none"
        return f", but does not list this model. It has: {names}; upstream_model is its name there"


def listed_models(body: bytes) -> list[str] | None:
    """Returns the ids in an answer to `/v1/models`, or None if it is something else: LM Studio
    answers 200 to any path. Ollama without models answers null in place of a list."""
    try:
        answer = json.loads(body)
        models = answer if isinstance(answer, list) else answer["data"]
        return [str(model["id"]) for model in models or ()]
    except (ValueError, KeyError, TypeError):
        return None

"""Watches what a router uses of what it can carry."""

import asyncio
import resource
import time
from collections.abc import Callable

from serving.router.http.server import HttpServer
from serving.router.telemetry.metrics import Metrics
from serving.scaling.autoscaler import PERIOD_S
from serving.scaling.router_load import RouterCounters, load_between

_MOVE_AGAIN_S = 30.0
"""A connection that comes back to a router that is short is not closed again for this long."""


class LoadWatch:
    """Measures the load of a router, and has its kept connections move to others while it is short:
    a router that was added gets only new ones."""

    def __init__(
        self,
        metrics: Metrics,
        server: HttpServer,
        others: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`others` returns the number of other routers."""
        self._metrics = metrics
        self._server = server
        self._others = others
        self._clock = clock
        # A stream has a connection to its client and one to an engine.
        self._max_connections = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._before = self._counters()
        self._known_others = 0
        self._moved_s = float("-inf")

    def _counters(self) -> RouterCounters:
        metrics = self._metrics
        return RouterCounters(self._clock(), metrics.event_loop.busy_s(), metrics.chunks)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            self.look()

    def look(self) -> None:
        """Measures the load since the last call."""
        now, connections = self._counters(), self._server.connections
        load = load_between(self._before, now, connections, self._max_connections)
        self._before, self._metrics.load = now, load
        others = self._others()
        is_due = others > self._known_others or now.at_s >= self._moved_s + _MOVE_AGAIN_S
        if load.is_short and others and is_due:
            self._moved_s, self._known_others = now.at_s, others
            self._server.move_connections()
        self._known_others = min(others, self._known_others)

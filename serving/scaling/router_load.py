"""How much of what one router can carry it uses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

CHUNKS_PER_S = 40_000
"""Chunks of streams that a router relays per second if it does nothing else: 25 µs of CPU each, by
`make bench-relay`."""
MAX_CONNECTIONS = 10_000
"""Connections of clients to one router."""
SHORT = 0.6
"""The share from which on a router is short of something: beyond it, chunks wait for each other
noticeably, and there is no room for a burst or for the connections of a router that ends."""

_SILENT_S = 10.0
"""Age beyond which a router's last report does not count."""


@dataclass(frozen=True, slots=True)
class RouterCounters:
    """What a router has counted until a time of a monotonic clock."""

    at_s: float
    busy_s: float
    """Time for which its event loop has been busy."""
    chunks: int
    """Chunks of streams that it has relayed."""


@dataclass(frozen=True, slots=True)
class RouterLoad:
    """Shares of what one router can carry; 1 is all of it."""

    event_loop: float = 0.0
    """Share of the event loop's time."""
    chunks: float = 0.0
    connections: float = 0.0

    @property
    def is_short(self) -> bool:
        return max(self.event_loop, self.chunks, self.connections) > SHORT

    def named(self) -> dict[str, float]:
        """The shares as named numbers, distinct from those of models."""
        return {f"router/{name}": value for name, value in asdict(self).items()}


RESOURCES = [field.name for field in fields(RouterLoad)]


def load_between(
    before: RouterCounters, now: RouterCounters, connections: int, max_connections: int
) -> RouterLoad:
    """The load between two times; `connections` are open now."""
    elapsed_s = now.at_s - before.at_s
    return RouterLoad(
        (now.busy_s - before.busy_s) / elapsed_s,
        (now.chunks - before.chunks) / elapsed_s / CHUNKS_PER_S,
        connections / min(MAX_CONNECTIONS, max_connections),
    )


def read_loads(
    series: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], now_s: float
) -> list[RouterLoad]:
    """The newest loads of the routers that have reported lately, from the named numbers with their
    times and values by router. Times are of the wall clock."""
    columns = [series.get(f"router/{name}", {}) for name in RESOURCES]
    loads = []
    for router_id in columns[0]:
        newest = [max(column.get(router_id, ()), default=(0.0, 0.0)) for column in columns]
        if min(at_s for at_s, _ in newest) > now_s - _SILENT_S:
            loads.append(RouterLoad(*(share for _, share in newest)))
    return loads

"""An engine replica as the router sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from serving.engine_protocol import EngineMetadata
from serving.placement import UNLIMITED, Capacity, ReplicaLoad
from serving.router.replicas.hand_over import RunningStreams
from serving.router.replicas.health import HealthCheck, ReplicaHealth
from serving.router.replicas.replica_adapters import ReplicaAdapters
from serving.router.replicas.upstream import ConnectionPool

_PROBE_CONNECT_S = 60
"""Longer than a probe may take, as the probe has a timeout of its own."""


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """What an engine publishes as replica metadata."""

    replica_id: str
    host: str
    port: int
    max_model_len: int
    capacity: Capacity = UNLIMITED
    tls: bool = False
    build: str = ""
    """What its engine runs: see `EngineMetadata`."""

    @classmethod
    def from_metadata(cls, replica_id: str, metadata: Mapping[str, Any]) -> "ReplicaInfo":
        engine = cast(EngineMetadata, metadata)
        return cls(
            replica_id,
            engine["host"],
            engine["port"],
            engine["max_model_len"],
            Capacity(
                engine["kv_cache_tokens"],
                engine["max_num_seqs"],
                engine.get("host_kv_cache_tokens", 0),
            ),
            build=engine.get("build", ""),  # engines of an earlier version have neither
        )


class Replica:
    """The connections, bookings and health of one replica."""

    def __init__(
        self,
        info: ReplicaInfo,
        load: ReplicaLoad,
        connect_timeout_s: float,
        check: HealthCheck | None,
        on_health: Callable[[], object],
        takes_adapters: bool = False,
    ) -> None:
        """`on_health` is called when it is ejected, leaves, or is healthy again. Without a `check`
        it is never ejected, and takes no adapters."""
        self.info = info
        self.load = load
        self.pool = ConnectionPool(info.host, info.port, connect_timeout_s, info.tls)
        probes = ConnectionPool(info.host, info.port, _PROBE_CONNECT_S, info.tls)
        self.streams = RunningStreams()
        self.adapters: ReplicaAdapters | None = None
        if takes_adapters and check is not None:
            self.adapters = ReplicaAdapters(load, self.pool, check.engine_token)
        self.health = ReplicaHealth(
            info.replica_id,
            check,
            probes,
            lambda: self.load.requests > 0,
            self.pool.abort,
            on_health,
            self.streams.replica_leaves,
        )

    def close(self) -> None:
        """Sends it no further requests; those in flight finish, or are handed over."""
        self.health.removed()
        self.pool.close()

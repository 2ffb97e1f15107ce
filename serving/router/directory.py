"""The models that the router serves and the replicas that are up for each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.mistral import ModelRules
from serving.router.backend import Backend
from serving.router.replica_health import HealthCheck, ReplicaHealth
from serving.router.tokens_in_flight import ReplicaLoad, least_tokens
from serving.router.upstream import ConnectionPool

_PROBE_CONNECT_S = 60
"""Longer than a probe may take: what is too long is the probe's to say."""


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """What an engine publishes of itself as replica metadata."""

    replica_id: str
    host: str
    port: int
    max_model_len: int
    tls: bool = False

    @classmethod
    def from_metadata(cls, replica_id: str, metadata: Mapping[str, Any]) -> "ReplicaInfo":
        return cls(replica_id, metadata["host"], metadata["port"], metadata["max_model_len"])


class Replica:
    """A live engine replica as the router sees it."""

    def __init__(
        self, info: ReplicaInfo, connect_timeout_s: float, check: HealthCheck | None
    ) -> None:
        self.info = info
        self.id_header = (b"x-replica", info.replica_id.encode())
        self.load = ReplicaLoad()
        self.pool = ConnectionPool(info.host, info.port, connect_timeout_s, info.tls)
        probes = ConnectionPool(info.host, info.port, _PROBE_CONNECT_S, info.tls)
        self.health = ReplicaHealth(
            info.replica_id, check, probes, lambda: self.load.requests > 0, self.pool.give_up
        )

    def close(self) -> None:
        """Sends it no more than what is under way."""
        self.health.removed()
        self.pool.close()


@dataclass(slots=True)
class Model:
    """A model of this application: its names, its rules and its live replicas."""

    model_id: str
    aliases: tuple[str, ...] = ()
    rules: ModelRules | None = None
    """None: requests to it pass as they are."""
    backend: Backend | None = None
    """The server that has it, if that is none of our engines."""
    replicas: list[Replica] = field(default_factory=list)

    @property
    def max_model_len(self) -> int | None:
        """The context length in tokens; None until a replica was up."""
        return self.replicas[0].info.max_model_len if self.replicas else None

    def place(self, tried: Iterable[Replica]) -> Replica | None:
        """The live replica to send the next request to, or None.

        One that is left out for its health is taken only if there is no other.
        """
        candidates = [r for r in self.replicas if r not in tried]
        healthy = [r for r in candidates if not r.health.left_out]
        candidates = healthy or candidates
        if not candidates:
            return None
        return candidates[least_tokens([r.load for r in candidates])]


class Directory:
    """Models by id and alias. Updated by push: `update` is told the live replicas of a model."""

    def __init__(
        self, models: Iterable[Model], connect_timeout_s: float, check: HealthCheck
    ) -> None:
        self.models = {model.model_id: model for model in models}
        self._by_name = dict(self.models)
        for model in self.models.values():
            for alias in model.aliases:
                self._by_name[alias] = model
        self._connect_timeout_s = connect_timeout_s
        self._check = check

    def find(self, name: str) -> Model | None:
        return self._by_name.get(name)

    def update(self, model_id: str, infos: Iterable[ReplicaInfo]) -> None:
        """Replaces the live replicas of a model; who stays keeps its load and connections."""
        model = self.models[model_id]
        check = self._check if model.backend is None else None
        known = {replica.info: replica for replica in model.replicas}
        model.replicas = [
            known.pop(info) if info in known else Replica(info, self._connect_timeout_s, check)
            for info in infos
        ]
        for gone in known.values():
            gone.close()

"""Summarises the state of the service from counters that exist anyway."""

import math
import time
from collections.abc import Callable, Mapping

from serving.config import RouterConfig
from serving.placement import UNLIMITED
from serving.router.http.authentication import Authentication
from serving.router.replicas.directory import Directory
from serving.router.replicas.replica import Replica
from serving.router.replicas.served_model import ServedModel
from serving.router.telemetry import objectives
from serving.router.telemetry.latency import WINDOW_S, Latency
from serving.router.telemetry.status import (
    ModelStatus,
    Objectives,
    Quantiles,
    Recent,
    ReplicaStatus,
    ServiceStatus,
)
from serving.start_errors import start_errors

_OBJECTIVES = Objectives(objectives.TTFT_S, objectives.ITL_S)


class Observer:
    """Builds the status of one router."""

    def __init__(
        self,
        directory: Directory,
        config: RouterConfig,
        authentication: Authentication,
        router_id: str,
        routers: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        deployments: Mapping[str, str] | None = None,
    ) -> None:
        """`routers` returns the number of routers; `deployments` has the deployment of each model
        whose engines Ray Serve starts."""
        self._directory = directory
        self._placement = config.placement
        self._needs_api_key = authentication.is_required
        self._router_id = router_id
        self._routers = routers
        self._clock = clock
        self._deployments = deployments or {}
        self._windows = {
            model_id: _Window(clock(), _counts(served))
            for model_id, served in directory.models.items()
        }

    async def explained_status(self, versions: dict[str, str]) -> ServiceStatus:
        """The status, with the reasons why models have no replica."""
        status = self.status(versions)
        down = {
            model_id: name
            for model_id, name in self._deployments.items()
            if not status.models[model_id].replicas
        }
        if down:
            for model_id, error in (await start_errors(down)).items():
                status.models[model_id].start_error = error
        return status

    def status(self, versions: dict[str, str]) -> ServiceStatus:
        return ServiceStatus(
            router=self._router_id,
            routers=self._routers(),
            placement=self._placement,
            needs_api_key=self._needs_api_key,
            versions=versions,
            objectives=_OBJECTIVES,
            models={
                model_id: self._model(model_id, served)
                for model_id, served in self._directory.models.items()
            },
        )

    def _model(self, model_id: str, served: ServedModel) -> ModelStatus:
        rules = served.model.rules
        return ModelStatus(
            aliases=list(served.model.aliases),
            takes_images=rules is not None and rules.image_limit > 0,
            waiting=served.dispatcher.waiting,
            startup_left_s=None if served.replicas else served.startup_left_s,
            replicas=[_replica(replica) for replica in served.replicas],
            recent=self._recent(model_id, served),
        )

    def _recent(self, model_id: str, served: ServedModel) -> Recent:
        window = self._windows[model_id]
        seconds, grown = window.look(self._clock(), _counts(served))
        requests, refused, failed, input_tokens, output_tokens, cached, expected = grown
        reported = input_tokens and served.model.backend is None
        metrics = served.metrics
        return Recent(
            seconds=seconds,
            requests=requests,
            refused=refused,
            failed=failed,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            hit_rate=cached / input_tokens if reported else None,
            # Expected by the router's own estimate of the prompt's tokens.
            expected_hit_rate=min(expected / input_tokens, 1.0) if reported else None,
            ttft=_quantiles(metrics.ttft),
            itl=_quantiles(metrics.itl),
            queue=_quantiles(metrics.queue),
        )


class _Window:
    """The recent growth of counters, without a hook at each change."""

    def __init__(self, now_s: float, counts: list[int]) -> None:
        self._before = self._since = now_s, counts

    def look(self, now_s: float, counts: list[int]) -> tuple[float, list[int]]:
        """Returns the length of the window in seconds, and how much each of `counts` grew in it."""
        if now_s - self._since[0] >= WINDOW_S:
            self._before, self._since = self._since, (now_s, counts)
        began_s, before = self._before
        return now_s - began_s, [now - then for now, then in zip(counts, before, strict=True)]


def _counts(served: ServedModel) -> list[int]:
    metrics = served.metrics
    return [
        sum(metrics.outcomes.values()),
        metrics.outcomes["refused"],
        metrics.outcomes["failed"] + metrics.outcomes["broken"],
        metrics.input_tokens,
        metrics.output_tokens,
        metrics.cached_tokens,
        metrics.expected_cached_tokens,
    ]


def _replica(replica: Replica) -> ReplicaStatus:
    info, load = replica.info, replica.load
    is_known = info.capacity != UNLIMITED
    return ReplicaStatus(
        replica=info.replica_id,
        address=f"{info.host}:{info.port}",
        requests_in_flight=load.requests,
        tokens_in_flight=load.kv_tokens,
        load=load.utilization if is_known else None,
        kv_cache_tokens=info.capacity.kv_cache_tokens if is_known else None,
        max_num_seqs=info.capacity.max_num_seqs if is_known else None,
        ejected=replica.health.ejected,
    )


def _quantiles(latency: Latency) -> Quantiles:
    p50_s, p99_s = (None if math.isnan(one) else one for one in latency.recent((0.5, 0.99)))
    return Quantiles(p50_s, p99_s)

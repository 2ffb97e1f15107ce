"""The Engine deployment: each replica is one vLLM engine with an HTTP port of its own."""

import asyncio
import contextlib
import hashlib
import logging
import socket
import time
from typing import Any, cast

import ray
from ray import serve
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from serving import ports, serve_log
from serving.adapters.base import base_of
from serving.adapters.store import AdapterStore
from serving.catalogue import CatalogueEntry
from serving.catalogue.vllm_flags import vllm_flags
from serving.engine import kernel_cache, start_log, torch_compile
from serving.engine.access import AccessMiddleware
from serving.engine.entry_flags import engine_flags, environment
from serving.engine.garbage import only_new_collected
from serving.engine.node_deadline import follow_node
from serving.engine_protocol import EngineMetadata, engine_token
from serving.mistral import ModelRules
from serving.versions import version, vllm_version
from serving.weights_claims import check_claims

log = logging.getLogger(__name__)

_START_TRIES = 3
_CLOSE_S = 30
"""The part of a replica's graceful shutdown reserved for stopping vLLM after the drain."""
_USAGE_TRIES, _USAGE_PAUSE_S = 30, 0.1
"""Routers have three seconds to fetch what the last requests used; they ask every second."""

_ADAPTERS_FOLDER = "mistral-serve/adapters"
"""Where engines of a node copy adapters to, in the session folder of Ray."""

_HEALTH_CHECK_PERIOD_S = 2
_HEALTH_CHECK_TIMEOUT_S = 30


def options(entry: CatalogueEntry, cpus: float, drain_timeout_s: float) -> dict[str, Any]:
    """Returns Ray Serve's options for an engine of this entry.

    Each pipeline stage is one bundle with all accelerators of its tensor parallel group, so a group
    never spans nodes; each stage has a node of its own. The replica runs in the first bundle.
    """
    gpus = entry.tensor_parallel_size if entry.accelerator == "gpu" else 0
    bundle: dict[str, float] = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    return {
        "ray_actor_options": {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "runtime_env": {"env_vars": environment(entry)},
        },
        "placement_group_bundles": [bundle] * entry.pipeline_parallel_size,
        "placement_group_strategy": "STRICT_SPREAD",
        "max_constructor_retry_count": _START_TRIES,
        "graceful_shutdown_timeout_s": drain_timeout_s + _CLOSE_S,
        "graceful_shutdown_wait_loop_s": 1,
        "health_check_period_s": _HEALTH_CHECK_PERIOD_S,
        "health_check_timeout_s": _HEALTH_CHECK_TIMEOUT_S,
    }


class Engine:
    """Loads the model and serves its front end on a free port of this node."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        entry: CatalogueEntry,
        rules: ModelRules,
        host: str | None,
        drain_timeout_s: float,
    ) -> None:
        self._drain_timeout_s = drain_timeout_s
        self._host = host or ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._build = build_of(entry)
        self._host_kv_cache_tokens = entry.host_kv_cache_tokens
        self._stages: list[Any] = []
        self._access: AccessMiddleware | None = None
        with serve_log.kept():
            await self._start(entry, rules)

    async def _start(self, entry: CatalogueEntry, rules: ModelRules) -> None:
        began_s = time.monotonic()
        await asyncio.to_thread(check_claims, entry)
        kernel_cache.use(gpu_type())
        if entry.accelerator == "cpu":
            torch_compile.avoid(vllm_flags(entry).get("enforce-eager") is True)
        with only_new_collected():
            from serving.engine.vllm.server import VllmServer

        vllm_args = self._vllm_args(entry)
        names = [entry.id, *entry.aliases]
        store, host_cache_gib = None, 0.0
        if entry.lora is not None:
            network = (await asyncio.to_thread(base_of, entry)).network
            store = AdapterStore(serve_log.session_folder() / _ADAPTERS_FOLDER, network)
            host_cache_gib = entry.lora.host_cache_gib
        self._server = VllmServer(vllm_args, names, rules, entry.loop_guard, store, host_cache_gib)
        for rank in range(1, entry.pipeline_parallel_size):
            stage_args = vllm_args | {"node-rank": rank}
            self._stages.append(start_pipeline_stage(rank, stage_args, entry.env))
        try:
            app = await self._server.start()
        except Exception:
            await self._raise_stage_error()
            raise
        self._access = AccessMiddleware(app, engine_token(), lambda: self._server.death)
        self._following = asyncio.create_task(follow_node(self._end_before_the_node))
        sock = ports.listen(self._host)
        self._port = sock.getsockname()[1]
        await self._server.listen(self._access, sock)
        start_log.export(entry.id, time.monotonic() - began_s)

    def _vllm_args(self, entry: CatalogueEntry) -> dict[str, Any]:
        args = engine_flags(entry)
        if entry.pipeline_parallel_size > 1:
            args |= {
                "pipeline-parallel-size": entry.pipeline_parallel_size,
                "nnodes": entry.pipeline_parallel_size,
                "node-rank": 0,
                "master-addr": self._host,
                "master-port": free_port(self._host),
            }
        return args

    def record_replica_metadata(self) -> EngineMetadata:
        return {
            "host": self._host,
            "port": self._port,
            "max_model_len": self._server.max_model_len,
            "kv_cache_tokens": self._server.kv_cache_tokens,
            "max_num_seqs": self._server.max_num_seqs,
            "host_kv_cache_tokens": self._host_kv_cache_tokens,
            "build": self._build,
        }

    async def check_health(self) -> None:
        if self._server.death is not None:
            raise RuntimeError(f"vLLM's engine is dead: {self._server.death}")
        await self._raise_stage_error()

    async def _raise_stage_error(self) -> None:
        """Raises what ended a pipeline stage of this replica, if one ended."""
        if self._stages and (ended := ray.wait(self._stages, timeout=0)[0]):
            await ended[0]
            raise RuntimeError("a pipeline stage of this replica ended")

    async def __del__(self) -> None:
        if self._access is None:
            return  # It never came up; vLLM stops what it started.
        drain = asyncio.ensure_future(self._access.drain(self._drain_timeout_s))
        hangs = asyncio.ensure_future(self._until_it_is_unhealthy())
        await asyncio.wait([drain, hangs], return_when=asyncio.FIRST_COMPLETED)
        hangs.cancel()
        if not drain.done():
            drain.cancel()
            log.warning("answers are cut off: the engine that should finish them does not answer")
        elif left := drain.result():
            log.warning(
                "%d answers are cut off: they did not end within drain_timeout_s, %g s, or before "
                "the node goes",
                left,
                self._drain_timeout_s,
            )
        await self._until_its_usage_is_known()
        self._following.cancel()
        await self._server.close()

    def _end_before_the_node(self, left_s: float) -> None:
        """Has answers end early enough before the node for the routers to learn what the last
        requests used."""
        assert self._access is not None
        self._access.end_within(left_s - _USAGE_TRIES * _USAGE_PAUSE_S)

    async def _until_its_usage_is_known(self) -> None:
        """Returns when the routers have fetched the counts of the last requests."""
        for _ in range(_USAGE_TRIES):
            if not self._server.unclaimed_usage:
                return
            await asyncio.sleep(_USAGE_PAUSE_S)
        log.warning("routers have not fetched what the last requests used")

    async def _until_it_is_unhealthy(self) -> None:
        """Returns when the engine is unhealthy: its answers cannot end, and its successor needs the
        accelerators that it holds."""
        with contextlib.suppress(Exception):
            while True:
                async with asyncio.timeout(_HEALTH_CHECK_TIMEOUT_S):
                    await self.check_health()
                await asyncio.sleep(_HEALTH_CHECK_PERIOD_S)


def start_pipeline_stage(
    rank: int, vllm_args: dict[str, Any], env: dict[str, str]
) -> "ray.ObjectRef[None]":
    """Starts a stage's workers in bundle `rank` of this replica's placement group. The reference is
    ready when they have ended."""
    group = get_current_placement_group()
    assert group is not None
    bundle = group.bundle_specs[rank]
    stage = ray.remote(PipelineStage).options(
        num_cpus=bundle["CPU"],
        num_gpus=bundle.get("GPU", 0),
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=rank
        ),
        runtime_env={"env_vars": env},
    )
    return cast("ray.ObjectRef[None]", stage.remote().run.remote(vllm_args))  # type: ignore[attr-defined]


class PipelineStage:
    """The actor of a pipeline stage beyond the first."""

    def run(self, vllm_args: dict[str, Any]) -> None:
        kernel_cache.use(gpu_type())
        from serving.engine.vllm.server import run_pipeline_stage

        run_pipeline_stage(vllm_args)


def build_of(entry: CatalogueEntry) -> str:
    """Returns a digest of what an engine of this entry runs: see `EngineMetadata`."""
    versions = [version("mistral-serve"), vllm_version()]
    text = "\n".join([*versions, entry.model_dump_json()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gpu_type() -> str:
    """The type of this node's GPUs, such as H100; "cpu" without any."""
    labels = ray.get_runtime_context().get_node_labels()
    return str(labels.get("ray.io/accelerator-type", "cpu"))


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as sock:
        return int(sock.getsockname()[1])


Deployment = cast(serve.Deployment, serve.deployment(Engine))

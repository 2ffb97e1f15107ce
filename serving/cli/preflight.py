"""Checks that this machine can run a configuration, before anything is started."""

import ctypes
import errno
import math
import socket
from pathlib import Path

import psutil

from serving.catalogue import CatalogueEntry
from serving.catalogue.vllm_flags import vllm_flags
from serving.config import AppConfig, ModelConfig

_GIB = 1024**3
_RAY_AND_ROUTER_GIB = 1.5
_NUMA_LIBRARY = "libnuma.so.1"


class PreflightError(Exception):
    """This machine lacks something; the message says what, and what to do."""


def check(config: AppConfig) -> None:
    """Raises PreflightError if the service cannot start on this machine."""
    check_port(config.router.host, config.router.port)
    check_engines(config)


def check_engines(config: AppConfig) -> None:
    """Raises PreflightError if the engines cannot start on this machine."""
    check_gpus(config)
    check_cpu_libraries(config)
    check_memory(config)
    check_vllm_args(config)


def check_port(host: str, port: int) -> None:
    # A plain bind: it fails if another service shares its port, as the routers do.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PreflightError(
                    f"Port {port} on {host} is taken. Stop what uses it (`ss -ltnp` names it; "
                    "`mistral-serve down` stops an earlier service) or set router.port."
                ) from None
            raise PreflightError(
                f"The router cannot listen on {host}:{port}: {error.strerror}. "
                "Set router.host and router.port."
            ) from None


def check_gpus(config: AppConfig) -> None:
    need = sum(_gpus(entry) * model.most_replicas for model, entry in _engines(config))
    have = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if need > have:
        raise PreflightError(
            f"These models need {need} GPUs and this machine has {have}. Lower replicas or "
            "tensor_parallel_size, or try deploy/serve/local.yaml, which needs none."
        )


def check_cpu_libraries(config: AppConfig) -> None:
    if all(entry.accelerator == "gpu" for _, entry in _engines(config)):
        return
    try:
        ctypes.CDLL(_NUMA_LIBRARY)
    except OSError:
        raise PreflightError(
            f"vLLM's CPU kernels need {_NUMA_LIBRARY}, which is not installed "
            "(Debian: apt-get install libnuma1)."
        ) from None


def check_memory(config: AppConfig) -> None:
    need_gib = _RAY_AND_ROUTER_GIB + sum(
        entry.replica_memory_gib * model.most_replicas for model, entry in _engines(config)
    )
    free_gib = psutil.virtual_memory().available / _GIB
    if need_gib > free_gib:
        raise PreflightError(
            f"About {need_gib:.1f} GiB of memory are needed and {free_gib:.1f} GiB are free. "
            "Stop other programs or lower replicas in the config."
        )


def check_vllm_args(config: AppConfig) -> None:
    for index, model in enumerate(config.models):
        entry = model.entry
        if entry.kind == "vllm" and (model.vllm_args or model.own_file):
            from serving.engine.vllm.arguments import parse  # takes seconds to import

            try:
                parse({"model": entry.weights, **vllm_flags(entry)}, [entry.id])
            except ValueError as error:
                raise PreflightError(f"models.{index}.vllm_args: {error}") from None


def cpus_needed(config: AppConfig) -> int:
    """Ray CPUs that all replicas of `config` need together."""
    engines = sum(
        model.cpus * model.most_replicas * entry.pipeline_parallel_size
        for model, entry in _engines(config)
    )
    return math.ceil(config.router.cpus * config.router.most_replicas + engines)


def _engines(config: AppConfig) -> list[tuple[ModelConfig, CatalogueEntry]]:
    """The models that run on this machine, with their entries."""
    models = ((model, model.entry) for model in config.models)
    return [(model, entry) for model, entry in models if entry.kind == "vllm"]


def _gpus(entry: CatalogueEntry) -> int:
    if entry.accelerator != "gpu":
        return 0
    return entry.tensor_parallel_size * entry.pipeline_parallel_size

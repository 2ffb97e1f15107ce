"""A way to serve a model, and whether it meets the objective."""

import math
from dataclasses import dataclass
from typing import Any

from serving.catalogue import CatalogueEntry
from serving.catalogue.gpus import GPUS
from serving.planner.guess import limit, per_replica
from serving.planner.objective import Objective
from serving.planner.traffic import Traffic
from serving.simulator.spec import engine_spec


@dataclass(slots=True)
class Option:
    """A build of a model on GPUs. `limit` is the reason why it is ruled out. `replicas` is the
    number that the peak needs by formula, `checked` by the simulator."""

    entry: CatalogueEntry
    kv_cache_tokens: int = 0
    replicas: int | None = None
    checked: int | None = None
    limit: str | None = None

    @property
    def name(self) -> str:
        return f"{self.entry.variant or self.entry.id} on {self.entry.hardware}"

    @property
    def gpus(self) -> int:
        """GPUs per replica."""
        return self.entry.tensor_parallel_size * self.entry.pipeline_parallel_size

    @property
    def peak_gpus(self) -> int | None:
        replicas = self.checked if self.checked is not None else self.replicas
        return None if replicas is None else replicas * self.gpus

    def as_dict(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "variant": entry.variant,
            "gpu": entry.gpu,
            "gpus_per_replica": self.gpus,
            "tensor_parallel_size": entry.tensor_parallel_size,
            "weights_dtype": entry.weights_dtype,
            "kv_cache_dtype": entry.kv_cache_dtype,
            "context_tokens": entry.context_tokens,
            "kv_cache_tokens": self.kv_cache_tokens,
            "replicas_by_formula": self.replicas,
            "replicas_simulated": self.checked,
            "limit": self.limit,
        }

    def order(self) -> tuple[float, int, int]:
        """A sort key: the fewest GPUs at the peak first, then the least quantised, then the
        smallest replica."""
        quantised = {"bf16": 0, "fp8": 1, "int4": 2}[self.entry.weights_dtype]
        peak = self.peak_gpus
        return (math.inf if peak is None else peak, quantised, self.gpus)


def option_of(entry: CatalogueEntry, traffic: Traffic, objective: Objective) -> Option:
    memory = entry.memory()
    option = Option(entry, memory.kv_tokens if memory else 0)
    if memory is None or memory.misfit is not None:
        reason = memory.misfit if memory else "the catalogue has no network for it"
        option.limit = f"memory: {reason}"
        return option
    if entry.first_speed() is None:
        option.limit = (
            "speed: it is unknown where GPUs are given by their memory; a file of the model with "
            f"`speed` has it, and the known types are {', '.join(GPUS)}"
        )
        return option
    spec = engine_spec(entry)
    option.limit = limit(spec, traffic, objective)
    if option.limit is None:
        per_s = per_replica(spec, traffic, objective)
        option.replicas = math.ceil(traffic.peak_per_s / per_s) if per_s else None
    return option

"""Writes the Serve config file of a plan."""

from typing import Any

import yaml

from serving.catalogue import CatalogueEntry, CatalogueFile

_LEAST_UTILIZATION = 0.05
_MOST_UTILIZATION = 0.95


def config(
    model: str,
    file: CatalogueFile,
    entry: CatalogueEntry,
    base_replicas: int,
    peak_replicas: int,
    prefill: float,
) -> str:
    """The config as YAML. `prefill` is the share of a replica's time for prefill, which scaling
    aims at."""
    of_model: dict[str, Any] = {"model": model}
    if entry.variant is not None:
        of_model["variant"] = entry.variant
    of_model["gpu"] = entry.gpu
    of_model["tensor_parallel_size"] = entry.tensor_parallel_size
    if entry.context_tokens != file.entry(entry.variant).context_tokens:
        of_model["context_tokens"] = entry.context_tokens
    if peak_replicas > base_replicas:
        target = min(max(prefill, _LEAST_UTILIZATION), _MOST_UTILIZATION)
        of_model["autoscaling"] = {
            "min_replicas": base_replicas,
            "max_replicas": peak_replicas,
            "prefill_utilization": round(target, 2),
        }
    else:
        of_model["replicas"] = peak_replicas
    document = {
        "proxy_location": "Disabled",
        "applications": [
            {
                "name": "mistral",
                "import_path": "serving.app:build",
                "route_prefix": None,
                "args": {"models": [of_model]},
            }
        ],
    }
    return yaml.safe_dump(document, sort_keys=False)

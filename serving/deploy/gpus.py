"""GPUs by type, and whether they have the memory that the config assumes."""

import re
from collections import Counter
from collections.abc import Iterator

from serving.catalogue.gpus import GPUS, usable_gib
from serving.deploy.errors import BadInput
from serving.deploy.facts import Facts, Object
from serving.deploy.finding import Finding, missing
from serving.deploy.manifests import Manifests
from serving.deploy.pods import GPU
from serving.deploy.quantity import quantity
from serving.deploy.serve_config import config_of

PRODUCT = "nvidia.com/gpu.product"
_MEMORY_MIB = "nvidia.com/gpu.memory"
_MEMORY_SLACK = 0.97
"""The share of a GPU's nominal memory that a driver reports at least."""


def gpu_types(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks that the nodes' GPUs have the memory that the config assumes."""
    try:
        config = config_of(manifests.service)
    except BadInput as error:
        fix = "correct deploy/serve/production.yaml, then run `make manifests`"
        yield missing("config", str(error), fix)
        return
    gpu_nodes = [node for node in facts.nodes or () if allocatable(node).get(GPU)]
    for model in config.models:
        entry = model.entry
        if entry.kind != "vllm" or entry.accelerator != "gpu" or not gpu_nodes:
            continue
        gib = {_product(node): _gib(node) for node in gpu_nodes}
        known = {product: size for product, size in gib.items() if size is not None}
        wanted_gib = usable_gib(entry.gpu) if entry.gpu is not None else 0
        if known and max(known.values()) < wanted_gib * _MEMORY_SLACK:
            has = ", ".join(f"{product} ({size:.0f} GiB)" for product, size in known.items())
            yield missing(
                "GPUs",
                f"{entry.id} is set to {entry.gpu} ({wanted_gib:.0f} GiB) and the nodes have {has}",
                "set models[].gpu in deploy/serve/production.yaml to one of "
                f"{', '.join(GPUS)} and choose a variant that fits (`mistral-serve models`), "
                "then `make manifests`",
            )


def _product(node: Object) -> str:
    return str(node["metadata"].get("labels", {}).get(PRODUCT, "GPU of unknown type"))


def _gib(node: Object) -> float | None:
    """The memory of a node's GPUs, by NVIDIA's labels; None if they do not tell."""
    labels = node["metadata"].get("labels", {})
    if str(labels.get(_MEMORY_MIB, "")).isdigit():
        return int(labels[_MEMORY_MIB]) / 1024
    match = re.search(r"(\d+)\s*GB", _product(node))
    return float(match[1]) if match else None


def by_type(gpu_nodes: list[Object]) -> str:
    count: Counter[str] = Counter()
    for node in gpu_nodes:
        count[_product(node)] += int(allocatable(node)[GPU])
    return ", ".join(f"{number} x {product}" for product, number in sorted(count.items()))


def allocatable(node: Object) -> Counter[str]:
    amounts = (node.get("status") or {}).get("allocatable") or {}
    return Counter({name: quantity(text) for name, text in amounts.items()})

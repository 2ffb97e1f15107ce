"""GPUs by type, and whether they have the driver, and the memory that the config assumes."""

import re
from collections import Counter
from collections.abc import Iterator

from serving.catalogue.gpus import GPUS, usable_gib
from serving.deploy.errors import BadInput
from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, missing
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object, labels_of
from serving.deploy.pods import GPU, wanted
from serving.deploy.quantity import quantity
from serving.deploy.selectors import refusal
from serving.deploy.serve_config import config_of

PRODUCT = "nvidia.com/gpu.product"
_MEMORY_MIB = "nvidia.com/gpu.memory"
_MEMORY_SLACK = 0.97
"""The share of a GPU's nominal memory that a driver reports at least."""
_DRIVER = ("nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver.major")
"""Labels of feature discovery from 0.17 on, and before."""
_MIN_DRIVER = 580
"""The oldest driver for CUDA 13, by NVIDIA's table of minor version compatibility."""
_SHARING = "nvidia.com/gpu.sharing-strategy"
_SHARES = "nvidia.com/gpu.replicas"


def usable(manifests: Manifests, facts: Facts) -> list[Object]:
    """The nodes with GPUs that accept a pod which needs some."""
    specs = [pods.spec for pods in wanted(manifests.objects) if pods.gpus]
    return [
        node
        for node in facts.nodes or ()
        if allocatable(node).get(GPU) and not all(refusal(node, spec) for spec in specs)
    ]


def gpu_types(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks that the nodes' GPUs are whole, and have the driver of the image's CUDA and the memory
    that the config assumes.
    """
    try:
        config = config_of(manifests.service)
    except BadInput as error:
        fix = "correct deploy/serve/production.yaml, then run `make manifests`"
        yield missing("config", str(error), fix)
        return
    gpu_nodes = usable(manifests, facts)
    entries = [model.entry for model in config.models]
    entries = [each for each in entries if each.kind == "vllm" and each.accelerator == "gpu"]
    if not gpu_nodes:
        return
    parallel = any(entry.tensor_parallel_size > 1 for entry in entries)
    yield from _unfit(gpu_nodes, parallel)
    for entry in entries:
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


def _unfit(gpu_nodes: list[Object], parallel: bool) -> Iterator[Finding]:
    """Findings for old drivers and for GPUs that are not whole, by NVIDIA's labels. `parallel` is
    whether a replica takes several GPUs.
    """
    off = "or keep engines off them by nodeSelector in the group engine of k8s/40-rayservice.yaml"
    old, shared, slices = [], [], []
    for node in gpu_nodes:
        labels = labels_of(node)
        driver = str(next((labels[each] for each in _DRIVER if each in labels), ""))
        if driver.isdigit() and int(driver) < _MIN_DRIVER:
            old.append(f"{node['metadata']['name']} ({driver})")
        if labels.get(_SHARING, "none") != "none" or labels.get(_SHARES, "1") not in ("0", "1"):
            shared.append(node["metadata"]["name"])
        if parallel and "-MIG-" in _product(node):
            slices.append(f"{node['metadata']['name']} ({_product(node)})")
    if old:
        yield missing(
            "GPUs",
            f"the image's CUDA 13 needs NVIDIA's driver {_MIN_DRIVER} or later, which these nodes "
            f"do not have: {', '.join(old)}",
            "update the driver, such as by driver.version of the GPU operator's chart, or by the "
            f"node image; {off}",
        )
    if shared:
        yield missing(
            "GPUs",
            f"GPUs are time-shared on {', '.join(shared)}, and an engine takes all memory of each",
            f"turn sharing off in the device plugin's config; {off}: {_SHARING}: none",
        )
    if slices:
        yield missing(
            "GPUs",
            f"GPUs are MIG slices on {', '.join(slices)}, and tensor parallelism needs whole ones",
            f"turn MIG off, or choose a variant of one GPU that fits into a slice; {off}",
        )


def _product(node: Object) -> str:
    return labels_of(node).get(PRODUCT, "GPU of unknown type")


def _gib(node: Object) -> float | None:
    """The memory of a node's GPUs, by NVIDIA's labels; None if they do not tell."""
    labels = labels_of(node)
    if str(labels.get(_MEMORY_MIB, "")).isdigit():
        return int(labels[_MEMORY_MIB]) / 1024
    sizes = re.findall(r"(\d+)GB", _product(node), re.IGNORECASE)
    return float(sizes[-1]) if sizes else None


def by_type(gpu_nodes: list[Object]) -> str:
    count: Counter[str] = Counter()
    for node in gpu_nodes:
        count[_product(node)] += int(allocatable(node)[GPU])
    return ", ".join(f"{number} x {product}" for product, number in sorted(count.items()))


def allocatable(node: Object) -> Counter[str]:
    amounts = (node.get("status") or {}).get("allocatable") or {}
    return Counter({name: quantity(text) for name, text in amounts.items()})

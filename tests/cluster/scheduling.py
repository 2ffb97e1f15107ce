"""Which node takes a pod, as the scheduler says it."""

from collections import Counter
from decimal import Decimal

from tests.cluster.pod_rules import quantity
from tests.cluster.quota import usage
from tests.cluster.schemas import Object


def node_for(pod: Object, nodes: list[Object], pods: list[Object]) -> tuple[str, str]:
    """The name of a node that takes the pod, or "" and why none does."""
    against: Counter[str] = Counter()
    for node in nodes:
        used = [
            other for other in pods if other["spec"].get("nodeName") == node["metadata"]["name"]
        ]
        lacks = _lacks(pod, node, used)
        if not lacks:
            return str(node["metadata"]["name"]), ""
        against.update(lacks)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(against.items()))
    return "", f"0/{len(nodes)} nodes are available: {reasons or 'no nodes available'}."


def _lacks(pod: Object, node: Object, used: list[Object]) -> list[str]:
    spec, labels = pod["spec"], node["metadata"].get("labels", {})
    if node["spec"].get("unschedulable"):
        return ["node(s) were unschedulable"]
    wanted = spec.get("nodeSelector", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    allocatable = node.get("status", {}).get("allocatable", {})
    usages = [usage(other) for other in used]
    lacks = []
    for name, amount in usage(pod).items():
        part, _, resource = name.partition(".")
        taken = sum((each.get(name, Decimal(0)) for each in usages), Decimal(0))
        if part == "requests" and taken + amount > quantity(allocatable.get(resource, 0)):
            lacks.append(f"Insufficient {resource}")
    return lacks

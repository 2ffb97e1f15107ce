"""Whether a cluster has room for the service, and for the second one of an upgrade."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, caution, missing, ok, unknown
from serving.deploy.gpus import PRODUCT, allocatable, by_type, usable
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object, labels_of
from serving.deploy.pods import GPU, Pods, second_cluster, usage, wanted
from serving.deploy.quantity import shown
from serving.deploy.selectors import refusal
from serving.deploy.stages import GROUP

PART_OF = "app.kubernetes.io/part-of"
_SCARCE = ("cpu", "memory", "ephemeral-storage", GPU)
_SHOWN = 5
_ENDED = ("Succeeded", "Failed")
_GPU_OPERATOR = (
    "helm repo add nvidia https://helm.ngc.nvidia.com/nvidia && helm repo update",
    "helm install gpu-operator nvidia/gpu-operator -n gpu-operator --create-namespace",
)


def nodes(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks for GPUs, and for room for all pods beside what others use."""
    if facts.nodes is None or facts.pods is None:
        command = "kubectl describe nodes | grep -A 8 'Allocated resources'"
        yield unknown("nodes", "list nodes and pods of all namespaces", command)
        return
    pods = sorted(wanted(manifests.objects), key=lambda each: -each.gpus)
    gpus_needed = sum(each.gpus * each.count for each in pods)
    gpu_nodes = [node for node in facts.nodes if allocatable(node).get(GPU)]
    if gpus_needed and not gpu_nodes:
        yield _no_gpus(gpus_needed, facts)
        pods = [each for each in pods if not each.gpus]
    elif open_nodes := usable(manifests, facts):
        yield ok("GPUs", f"{by_type(open_nodes)}; {gpus_needed} are needed")
    free = _free(facts, manifests)
    homeless = _place(pods, facts.nodes, free)
    for subject, of_gpus in (("GPUs", True), ("nodes", False)):
        short = [(each, count) for each, count in homeless if bool(each.gpus) is of_gpus]
        if short:
            yield _no_room(subject, short, facts, manifests.namespace)
    if not homeless and (gpu_nodes or not gpus_needed):
        yield ok("nodes", f"room for all {sum(each.count for each in pods)} pods")
        second = second_cluster(manifests.objects)
        for each, count in _place(second, facts.nodes, free):
            need = f" of {each.gpus} GPUs" if each.gpus else ""
            yield caution(
                "upgrade",
                f"a second cluster has no room for {count} of {each.count} {each.owner} "
                f"pods{need}: changes of more than serveConfigV2 wait for nodes",
                "add nodes before an upgrade, or use deploy/overlays/incremental-upgrade",
            )


def _no_room(subject: str, short: list[tuple[Pods, int]], facts: Facts, namespace: str) -> Finding:
    lacking = []
    for pods, count in short:
        need = {name: pods.usage[f"requests.{name}"] for name in _SCARCE}
        each = ", ".join(f"{shown(name, Decimal(n))} {name}" for name, n in need.items() if n)
        lacking.append(f"{count} of {pods.count} {pods.owner} ({each} each)")
    said = f"no node has room for {'; '.join(lacking)}"
    command = f"kubectl describe nodes; kubectl get nodes -L {PRODUCT}"
    if facts.adds_nodes:
        return caution(subject, f"{said} now; the cluster's autoscaler can add nodes", command)
    closed = _closed([pods for pods, _ in short], facts)
    fixes = [f"add nodes, free some, or lower replicas: {command}"]
    if any(" taint " in each for each in closed):
        fixes.append("tolerate the taint in the group's tolerations in k8s/40-rayservice.yaml, or "
                     "use an overlay that does; in a cluster that runs also by "
                     f"kubectl -n {namespace} edit raycluster")  # fmt: skip
    return missing(subject, "; ".join([said, *closed]), *fixes)


def _closed(short: list[Pods], facts: Facts) -> list[str]:
    """The nodes of the kind that these pods need which accept none of them, and why."""
    found = {}
    for node in facts.nodes or ():
        if bool(short[0].gpus) is bool(allocatable(node).get(GPU)):
            reasons = [refusal(node, pods.spec) for pods in short]
            if all(reasons):
                found[node["metadata"]["name"]] = reasons[0]
    said = [f"{name} {reason}" for name, reason in found.items()]
    return said[:_SHOWN] + [f"{len(said) - _SHOWN} further nodes too"] * (len(said) > _SHOWN)


def _free(facts: Facts, manifests: Manifests) -> dict[str, Counter[str]]:
    """The free resources of each node, with those of this service's own pods, as far as they are
    wanted: what Ray's autoscaler has added to a group stays."""
    free = {node["metadata"]["name"]: allocatable(node) for node in facts.nodes or ()}
    sizes = {pods.owner: pods.count for pods in wanted(manifests.objects)}
    for pod in facts.pods or ():
        metadata = pod["metadata"]
        labels = labels_of(pod)
        ours = metadata["namespace"] == manifests.namespace and PART_OF in labels
        node = pod["spec"].get("nodeName")
        group = labels.get(GROUP)
        if ours and group in sizes:
            sizes[group] -= 1
            ours = sizes[group] >= 0
        if ours or node not in free or pod["status"].get("phase") in _ENDED:
            continue
        for name, amount in usage(pod["spec"]).items():
            free[node][name.removeprefix("requests.")] -= amount
    return free


def _place(
    pods: list[Pods], nodes: list[Object], free: dict[str, Counter[str]]
) -> list[tuple[Pods, int]]:
    """Places pods on nodes, takes their requests off `free` and returns those left over."""
    homeless: Counter[int] = Counter()
    for index, each in enumerate(pods):
        need = {
            name.removeprefix("requests."): amount
            for name, amount in each.usage.items()
            if name.startswith("requests.") or name == "pods"
        }
        fitting = [node["metadata"]["name"] for node in nodes if not refusal(node, each.spec)]
        # GPUs are for who needs them: others go where there are none, if they can.
        fitting.sort(key=lambda name: free[name][GPU])
        for _ in range(each.count):
            home = next((n for n in fitting if all(free[n][r] >= a for r, a in need.items())), None)
            if home is None:
                homeless[index] += 1
            else:
                free[home].subtract(need)
    return [(pods[index], count) for index, count in homeless.items()]


def _no_gpus(needed: int, facts: Facts) -> Finding:
    said = f"{needed} are needed and no node offers {GPU}"
    if facts.adds_nodes:
        fix = f"check that a group of GPU nodes can grow: kubectl get nodes -L {PRODUCT}"
        return caution("GPUs", f"{said} now; the cluster's autoscaler can add nodes", fix)
    return missing("GPUs", said, *_GPU_OPERATOR,
                   "without GPUs: kubectl apply -k deploy/overlays/cpu")  # fmt: skip

"""What the namespace's pod security standard, `restricted`, refuses, and what we add to it: no
token where none is needed, a root file system that nobody writes to, and nothing secret in a
manifest."""

import re
from collections.abc import Iterator

from tests.k8s.manifests import Object, Pod, name, of_kind, pods

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_NEED_TOKEN = {"autoscaler"}
_IMAGE = re.compile(
    r"(?P<registry>[a-z0-9.-]+\.[a-z]+(:\d+)?)/(?P<repository>[a-z0-9._/-]+)"
    r"(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?"
)
_SECRET_WORD = re.compile(r"token|password|secret|api_?key", re.I)


def problems(objects: list[Object]) -> list[str]:
    return [
        *(f"{name(o)}: a Secret's value stands in a manifest" for o in of_kind(objects, "Secret")),
        *(problem for pod in pods(objects) for problem in _pod(pod)),
    ]


def _pod(pod: Pod) -> Iterator[str]:
    spec = pod.spec
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{pod.owner}: {field}"
    for volume in spec.get("volumes", ()):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield f"{pod.owner}: the volume {volume['name']} is of a kind that is not allowed"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{pod.owner}: a service account's token is mounted into all its containers"
    if "serviceAccountName" not in spec:
        yield f"{pod.owner}: runs as the namespace's default service account"
    of_pod = spec.get("securityContext", {})
    for container in pod.containers:
        yield from _container(f"{pod.owner}, {container['name']}", container, of_pod)


def _container(where: str, container: Object, of_pod: Object) -> Iterator[str]:
    context = of_pod | container.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield f"{where}: may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: no seccomp profile"
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{where}: may gain privileges"
    if "ALL" not in context.get("capabilities", {}).get("drop", ()):
        yield f"{where}: keeps capabilities"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{where}: can write to its root file system"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield f"{where}: takes a port of the host"
    mounts_token = any(m["mountPath"] == _TOKEN_PATH for m in container.get("volumeMounts", ()))
    if mounts_token != (container["name"] in _NEED_TOKEN):
        yield f"{where}: a service account's token is {'there' if mounts_token else 'missing'}"
    image = _IMAGE.fullmatch(container["image"])
    if image is None or (image["tag"] in (None, "latest") and "@" not in container["image"]):
        yield f"{where}: its image is not named with registry and tag or digest"
    for variable in container.get("env", ()):
        if _SECRET_WORD.search(variable["name"]) and "value" in variable:
            yield f"{where}: {variable['name']} stands in the manifest"
    resources = container.get("resources", {})
    for resource in ("cpu", "memory"):
        if resource not in resources.get("requests", {}):
            yield f"{where}: asks for no {resource}, and the quota refuses that"
    if "memory" not in resources.get("limits", {}):
        yield f"{where}: has no limit of memory, and the quota refuses that"

"""Rules of security: those of the pod security standard `restricted`, a read-only root file system,
no token where none is needed, and nothing secret in a manifest."""

import re
from collections.abc import Iterator

from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, Report, report_on
from serving.deploy.lint.pods import Pod, pods
from serving.deploy.manifests import Manifests, Object

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


def problems(manifests: Manifests) -> Iterator[Finding]:
    for secret in manifests.of_kind("Secret"):
        yield report_on(named(secret), "security")(
            "secret-in-manifest",
            "a Secret stands in the manifests",
            "take it out, and make it with `kubectl create secret` as deploy/secrets.sh does",
        )
    for pod in pods(manifests):
        yield from _pod(pod)


def _pod(pod: Pod) -> Iterator[Finding]:
    wrong, spec = report_on(pod.owner, "security"), pod.spec
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield wrong("host-namespace", f"shares the node's own: {field}", f"remove {field}")
    for volume in spec.get("volumes", ()):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield wrong(
                "volume-kind",
                f"the kind of the volume {volume['name']} is not allowed by `restricted`",
                "use a persistentVolumeClaim or an emptyDir",
            )
    if spec.get("automountServiceAccountToken") is not False:
        yield wrong(
            "token-automount",
            "the service account's token is mounted in all its containers",
            "set automountServiceAccountToken: false",
        )
    if "serviceAccountName" not in spec:
        yield wrong(
            "default-service-account",
            "runs as the namespace's default service account",
            "set serviceAccountName, such as workload",
        )
    for container in pod.containers:
        on_container = report_on(f"{pod.owner}, {container['name']}", "security")
        yield from _privileges(container, spec.get("securityContext", {}), on_container)
        yield from _container(container, on_container)


def _privileges(container: Object, of_pod: Object, wrong: Report) -> Iterator[Finding]:
    context = of_pod | container.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield wrong("root", "may run as root", "set runAsNonRoot: true and a runAsUser above 0")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield wrong(
            "seccomp", "has no seccomp profile", "set seccompProfile: {type: RuntimeDefault}"
        )
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield wrong(
            "privileges",
            "may gain privileges",
            "set allowPrivilegeEscalation: false, and no privileged",
        )
    if "ALL" not in context.get("capabilities", {}).get("drop", ()):
        yield wrong("capabilities", "keeps Linux capabilities", "set capabilities: {drop: [ALL]}")
    if context.get("readOnlyRootFilesystem") is not True:
        yield wrong(
            "root-file-system",
            "can write to its root file system",
            "set readOnlyRootFilesystem: true, and mount an emptyDir where it writes",
        )


def _container(container: Object, wrong: Report) -> Iterator[Finding]:
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield wrong("host-port", "takes a port of the node", "remove hostPort")
    mounts_token = any(m["mountPath"] == _TOKEN_PATH for m in container.get("volumeMounts", ()))
    if mounts_token and container["name"] not in _NEED_TOKEN:
        yield wrong(
            "token-mounted", "has a service account's token that it does not need", "unmount it"
        )
    if not mounts_token and container["name"] in _NEED_TOKEN:
        yield wrong(
            "token-missing",
            "has no service account's token, and must ask Kubernetes for pods",
            f"mount the projected volume api-token at {_TOKEN_PATH} in autoscalerOptions",
        )
    image = _IMAGE.fullmatch(container["image"])
    if image is None or (image["tag"] in (None, "latest") and "@" not in container["image"]):
        yield wrong(
            "image",
            f"the image {container['image']} is not named with a registry and a tag or digest",
            "write it as registry.example.com/name:1.2.3",
        )
    for variable in container.get("env", ()):
        if _SECRET_WORD.search(variable["name"]) and "value" in variable:
            yield wrong(
                "secret-in-env",
                f"the value of {variable['name']} stands in the manifest",
                "take it from a Secret with valueFrom.secretKeyRef",
            )
    resources = container.get("resources", {})
    for resource in ("cpu", "memory"):
        if resource not in resources.get("requests", {}):
            yield wrong(
                "requests",
                f"requests no {resource}, which the namespace's quota refuses",
                f"set resources.requests.{resource}",
            )
    if "memory" not in resources.get("limits", {}):
        yield wrong(
            "limit-memory",
            "has no memory limit, which the namespace's quota refuses",
            "set resources.limits.memory",
        )

"""Rules of security: those of the pod security standard `restricted`, a read-only root file system,
no token where none is needed, and nothing secret in a manifest."""

import re
from collections.abc import Iterator

from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import Pod, pods
from serving.deploy.lint.rules import Report, report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_NEED_TOKEN = {"autoscaler"}
_IMAGE = re.compile(
    r"(?P<registry>([a-z0-9.-]+\.[a-z]+|localhost)(:\d+)?)/(?P<repository>[a-z0-9._/-]+)"
    r"(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?"
)
_SECRET_WORD = re.compile(r"token|password|secret|api_?key", re.I)


def problems(manifests: Manifests) -> Iterator[Finding]:
    for secret in manifests.of_kind("Secret"):
        wrong = report_on(named(secret), "security")
        yield wrong("secret-in-manifest", "a Secret stands in the manifests")
    for pod in pods(manifests):
        yield from _pod(pod, report_on(pod.owner, "security"))
        for container in pod.containers:
            wrong = report_on(f"{pod.owner}, {container['name']}", "security")
            of_pod = pod.spec.get("securityContext", {})
            yield from _privileges(of_pod | container.get("securityContext", {}), wrong)
            yield from _container(container, wrong)


def _pod(pod: Pod, wrong: Report) -> Iterator[Finding]:
    spec = pod.spec
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield wrong("host-namespace", f"shares the node's own: {field}")
    for volume in spec.get("volumes", ()):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield wrong(
                "volume-kind", f"the volume {volume['name']} is not allowed by `restricted`"
            )
    if spec.get("automountServiceAccountToken") is not False:
        yield wrong("token-automount", "its account's token is mounted in all its containers")
    if "serviceAccountName" not in spec:
        yield wrong("default-service-account", "runs as the default service account")


def _privileges(context: Object, wrong: Report) -> Iterator[Finding]:
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield wrong("root", "may run as root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield wrong("seccomp", "has no seccomp profile")
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield wrong("privileges", "may gain privileges")
    if "ALL" not in context.get("capabilities", {}).get("drop", ()):
        yield wrong("capabilities", "keeps Linux capabilities")
    if context.get("readOnlyRootFilesystem") is not True:
        yield wrong("root-file-system", "can write to its root file system")


def _container(container: Object, wrong: Report) -> Iterator[Finding]:
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield wrong("host-port", "takes a port of the node")
    mounts_token = any(m["mountPath"] == _TOKEN_PATH for m in container.get("volumeMounts", ()))
    needs_token = container["name"] in _NEED_TOKEN
    if mounts_token and not needs_token:
        yield wrong("token-mounted", "has a service account's token that it does not need")
    if needs_token and not mounts_token:
        yield wrong("token-missing", f"has no service account's token at {_TOKEN_PATH}")
    image, parts = container["image"], _IMAGE.fullmatch(container["image"])
    if parts is None or (parts["tag"] in (None, "latest") and "@" not in image):
        yield wrong("image", f"the image {image} lacks a registry and a tag or digest")
    for variable in container.get("env", ()):
        if _SECRET_WORD.search(variable["name"]) and "value" in variable:
            yield wrong("secret-in-env", f"the value of {variable['name']} stands in the manifest")
    resources = container.get("resources", {})
    for resource in sorted({"cpu", "memory"} - resources.get("requests", {}).keys()):
        yield wrong("requests", f"requests no {resource}, which the namespace's quota refuses")
    if "memory" not in resources.get("limits", {}):
        yield wrong("limit-memory", "has no memory limit, which the namespace's quota refuses")

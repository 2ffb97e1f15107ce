"""Mistakes that make a pod less secure than it must be."""

from tests.k8s.mistakes import (
    CONTAINER,
    ENGINE,
    ENV,
    HEAD,
    JOB,
    OPTIONS,
    POD,
    RAY,
    REMOVE,
    ROUTER,
    SECURITY,
    Mistake,
)

MISTAKES: dict[str, list[Mistake]] = {
    "security/secret-in-manifest": [("Service redis", "kind", "Secret", "a Secret stands in")],
    "security/host-namespace": [
        (RAY, f"{ENGINE}.template.spec.hostNetwork", True, "hostNetwork")
    ],
    "security/volume-kind": [
        (JOB, f"{POD}.volumes.0", {"name": "tmp", "hostPath": {"path": "/"}}, "not allowed")
    ],
    "security/token-automount": [
        (RAY, f"{HEAD}.template.spec.automountServiceAccountToken", True, "in all its containers")
    ],
    "security/default-service-account": [
        (JOB, f"{POD}.serviceAccountName", REMOVE, "default service account")
    ],
    "security/root": [
        (JOB, f"{POD}.securityContext.runAsNonRoot", False, "may run as root"),
        (JOB, f"{POD}.securityContext.runAsUser", 0, "may run as root"),
    ],
    "security/seccomp": [(JOB, f"{POD}.securityContext.seccompProfile", {}, "no seccomp profile")],
    "security/privileges": [(RAY, f"{ENGINE}.{SECURITY}.privileged", True, "may gain privileges")],
    "security/capabilities": [(RAY, f"{ENGINE}.{SECURITY}.capabilities", {}, "capabilities")],
    "security/root-file-system": [
        (RAY, f"{ROUTER}.{SECURITY}.readOnlyRootFilesystem", False, "root file system")
    ],
    "security/host-port": [
        (RAY, f"{ROUTER}.{CONTAINER}.ports.0.hostPort", 8000, "a port of the node")
    ],
    "security/token-mounted": [
        (RAY, f"{ENGINE}.{CONTAINER}.volumeMounts.0.mountPath",
         "/var/run/secrets/kubernetes.io/serviceaccount", "that it does not need")
    ],
    "security/token-missing": [(RAY, f"{OPTIONS}.volumeMounts.2", REMOVE, "autoscaler: has no")],
    "security/image": [
        (RAY, f"{ENGINE}.{CONTAINER}.image", "mistral-serve:0.1.0", "a registry and a tag"),
        (RAY, f"{ENGINE}.{CONTAINER}.image", "r.example.com/mistral-serve", "a registry and a tag"),
    ],
    "security/secret-in-env": [
        (RAY, f"{ENGINE}.{ENV}", {"name": "HF_TOKEN", "value": "hf_x"}, "value of HF_TOKEN stands")
    ],
    "security/requests": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.requests.cpu", REMOVE, "requests no cpu")
    ],
    "security/limit-memory": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits", {}, "has no memory limit")
    ],
}  # fmt: skip

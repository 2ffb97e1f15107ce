"""Mistakes in a pod's commands, probes and the time that it has to end."""

from tests.k8s.mistakes import (
    CONTAINER,
    ENGINE,
    HEAD,
    JOB,
    RAY,
    REMOVE,
    ROUTER,
    UPGRADE,
    Mistake,
    in_steps,
)

MISTAKES: dict[str, list[Mistake]] = {
    "lifecycle/command": [
        (JOB, f"spec.{CONTAINER}.command.1", "weight", "No such command 'weight'"),
        (RAY, f"{ENGINE}.template.spec.initContainers.0.command.2", "--waits", "No such option"),
        (RAY, f"{ROUTER}.{CONTAINER}.lifecycle.preStop.exec.command.2",
         "exec mistral-serve drain-node --timeout 690", "No such option"),
    ],
    "lifecycle/deletion-delay": [
        (RAY, "spec.rayClusterDeletionDelaySeconds", 60, "an answer may take 600 s")
    ],
    "lifecycle/head-grace": [
        (RAY, f"{HEAD}.template.spec.terminationGracePeriodSeconds", 900, "is gone before")
    ],
    "lifecycle/drain": [(RAY, f"{ENGINE}.{CONTAINER}.lifecycle", {}, "not drained")],
    "lifecycle/grace-period": [
        (RAY, f"{ENGINE}.template.spec.terminationGracePeriodSeconds", 600, "killed after 600 s")
    ],
    "lifecycle/drain-time": [
        (RAY, f"{ENGINE}.{CONTAINER}.lifecycle.preStop.exec.command.2",
         "exec mistral-serve drain-node --within-s 600",
         "draining ends after 600 s, an answer after 630 s"),
    ],
    "lifecycle/readiness": [
        (RAY, f"{ENGINE}.{CONTAINER}.readinessProbe", REMOVE, "has no readinessProbe")
    ],
    "lifecycle/engine-ready": [(RAY, UPGRADE, in_steps(), "would send it clients' requests")],
    "lifecycle/liveness": [
        (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe", REMOVE, "has no livenessProbe")
    ],
    "lifecycle/liveness-patience": [
        (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe.failureThreshold", 3, "while it loads a model")
    ],
    "lifecycle/liveness-replica": [
        (RAY, f"{ROUTER}.{CONTAINER}.livenessProbe.httpGet.port", "serve", "replica is away")
    ],
}  # fmt: skip

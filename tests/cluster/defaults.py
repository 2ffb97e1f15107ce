"""What the API server fills in where a manifest is silent, as far as anything here depends on it.

The published schemas of built-in kinds carry no defaults; those of custom resources do.
"""

from typing import Any

_CORE = "io.k8s.api.core.v1."

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}

DEFAULTS: dict[str, dict[str, Any]] = {
    f"{_CORE}PodSpec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
    },
    f"{_CORE}Container": {
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "resources": {},
    },
    f"{_CORE}ContainerPort": {"protocol": "TCP"},
    f"{_CORE}Probe": _PROBE,
    f"{_CORE}HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    f"{_CORE}ObjectFieldSelector": {"apiVersion": "v1"},
    f"{_CORE}SecretVolumeSource": {"defaultMode": 420},
    f"{_CORE}ConfigMapVolumeSource": {"defaultMode": 420},
    f"{_CORE}ProjectedVolumeSource": {"defaultMode": 420},
    f"{_CORE}ServiceSpec": {"type": "ClusterIP", "sessionAffinity": "None"},
    f"{_CORE}ServicePort": {"protocol": "TCP"},
    f"{_CORE}PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    f"{_CORE}Secret": {"type": "Opaque"},
    "io.k8s.api.apps.v1.DeploymentSpec": {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate"},
    },
    "io.k8s.api.apps.v1.StatefulSetSpec": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate"},
    },
    "io.k8s.api.batch.v1.JobSpec": {
        "backoffLimit": 6,
        "completions": 1,
        "parallelism": 1,
        "completionMode": "NonIndexed",
        "suspend": False,
    },
    "io.k8s.api.networking.v1.NetworkPolicyPort": {"protocol": "TCP"},
    "io.k8s.api.scheduling.v1.PriorityClass": {"preemptionPolicy": "PreemptLowerPriority"},
}

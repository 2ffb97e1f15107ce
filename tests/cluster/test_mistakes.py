"""Mistakes that people make in manifests and that a cluster finds: each in a copy of k8s/.

Those that need no cluster to be found are in tests/k8s/rules/.
"""

import copy
from typing import Any

import pytest

from serving.deploy.lint.network import allowed
from serving.deploy.manifests import Manifests
from tests.cluster import trial
from tests.cluster.cluster import Cluster
from tests.cluster.schemas import Object
from tests.k8s import test_network
from tests.k8s.manifests import base
from tests.k8s.mistakes import CLUSTER, CONTAINER, ENGINE, HEAD, REMOVE, ROUTER, changed, short_name

Mistake = tuple[str, str, Any, str]

RAY, REDIS = "RayService mistral", "StatefulSet redis"
REFUSED: list[Mistake] = [
    # Misspelt, or in the wrong place.
    (
        REDIS,
        "spec.template.spec.terminationGracePeriod",
        30,
        'unknown field "spec.template.spec.terminationGracePeriod"',
    ),
    (RAY, f"{CLUSTER}.workerGroups", [], 'unknown field "spec.rayClusterConfig.workerGroups"'),
    (
        RAY,
        f"{ENGINE}.{CONTAINER}.readyProbe",
        {},
        'workerGroupSpecs[1].template.spec.containers[0].readyProbe"',
    ),
    (RAY, f"{HEAD}.{CONTAINER}.tolerations", [], 'template.spec.containers[0].tolerations"'),
    ("NetworkPolicy names", "spec.ports", [], 'unknown field "spec.ports"'),
    # Of the wrong type.
    (REDIS, f"spec.{CONTAINER}.ports.0.containerPort", "redis", "must be of type integer"),
    (
        RAY,
        f"{ENGINE}.replicas",
        "2",
        "workerGroupSpecs[1].replicas in body must be of type integer",
    ),
    (RAY, f"{HEAD}.rayStartParams.num-cpus", 0, "num-cpus in body must be of type string"),
    (RAY, "spec.serveConfigV2", {}, "spec.serveConfigV2 in body must be of type string"),
    # Missing, or of a value that is not allowed.
    (RAY, f"{ENGINE}.groupName", REMOVE, "workerGroupSpecs[1].groupName: Required value"),
    (RAY, CLUSTER, REMOVE, "spec.rayClusterConfig: Required value"),
    (RAY, "spec.managedBy", "us", "the managedBy field value must be either"),
    (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.memory", "48 GB", "resources.limits.memory"),
    (REDIS, f"spec.{CONTAINER}.resources.limits.memory", "1 GB", "resources.limits[memory]"),
    ("Service redis", "spec.ports.0.port", 637900, "must be between 1 and 65535"),
    ("Job weights", "spec.template.spec.restartPolicy", "Always", 'Unsupported value: "Always"'),
    ("ServiceAccount workload", "metadata.labels.of", "a b", "a valid label must be"),
    (REDIS, "spec.selector.matchLabels.app", "redis", "does not match template `labels`"),
    (REDIS, f"spec.{CONTAINER}.volumeMounts.0.name", "store", 'Not found: "store"'),
    ("PodDisruptionBudget engine", "spec.maxUnavailable", 1, "cannot be both set"),
    ("Service redis", "metadata.namespace", "mistral", 'namespaces "mistral" not found'),
]
"""What the server refuses."""

BROKEN: list[Mistake] = [
    (RAY, f"{ROUTER}.{CONTAINER}.volumeMounts.0.name", "shared", 'Not found: "shared"'),
    (RAY, f"{ENGINE}.{CONTAINER}.resources.requests.nvidia~com/gpu", "1", "must be equal to"),
    (
        RAY,
        f"{HEAD}.{CONTAINER}.securityContext.allowPrivilegeEscalation",
        True,
        'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
    ),
    (
        RAY,
        f"{CLUSTER}.autoscalerOptions.securityContext",
        REMOVE,
        '(container "autoscaler" must set',
    ),
    (
        RAY,
        f"{ENGINE}.template.spec.serviceAccountName",
        "engine",
        'serviceaccount "engine" not found',
    ),
    (
        "ResourceQuota mistral-serve",
        "spec.hard.requests~nvidia~com/gpu",
        "3",
        "exceeded quota: mistral-serve, requested: requests.nvidia.com/gpu=2",
    ),
    (RAY, f"{ROUTER}.{CONTAINER}.resources.requests.cpu", REMOVE, "must specify requests.cpu"),
    (RAY, f"{ENGINE}.template.spec.nodeSelector", {"gpu": "H1000"}, "node affinity/selector"),
    (
        REDIS,
        f"spec.{CONTAINER}.env.0.valueFrom.secretKeyRef.key",
        "redis",
        "couldn't find key redis in Secret mistral-serve/redis-password",
    ),
    (RAY, f"{CLUSTER}.authOptions.secretName", "ray-token", 'secret "ray-token" not found'),
    (
        RAY,
        f"{ENGINE}.template.spec.volumes.3.persistentVolumeClaim.claimName",
        "model",
        'persistentvolumeclaim "model" not found',
    ),
    (
        RAY,
        f"{ENGINE}.template.spec.volumes.5.configMap.name",
        "serve",
        'configmap "serve" not found',
    ),
    (
        "PersistentVolumeClaim models",
        "spec.storageClassName",
        "fast",
        'storageclass.storage.k8s.io "fast" not found',
    ),
    (RAY, "spec.serveService.spec.ports.0.targetPort", "http", "RayService mistral: is not ready"),
    (
        "PodDisruptionBudget engine",
        "spec.minAvailable",
        2,
        "PodDisruptionBudget engine: allows no disruption",
    ),
]
"""What the server takes, and what then does not run."""

OPEN: list[Mistake] = [
    # All ports, and so Ray's dashboard, from which anyone can run code.
    (
        "NetworkPolicy clients-to-routers",
        "spec.ingress.0.ports",
        REMOVE,
        "client to router on 52365",
    ),
    ("NetworkPolicy operator-to-head", "spec.ingress.0.from", REMOVE, "stranger to head on 8265"),
    (
        "NetworkPolicy redis-from-head",
        "spec.ingress.0.from.0.podSelector",
        {"matchLabels": {"app": "ray"}},
        "head to redis on 6379",
    ),
]
"""What lets others talk to each other than the design says."""


def flows(objects: list[Object]) -> list[str]:
    """Where the policies differ from the design: who may talk and should not, or the reverse."""
    everyone, policies = (
        test_network.peers(),
        Manifests("", tuple(objects)).of_kind("NetworkPolicy"),
    )
    return [
        f"{source} to {target} on {port}"
        for source, from_ in everyone.items()
        for target, to in everyone.items()
        if "mistral-serve" in (from_.namespace, to.namespace)
        for port in sorted(test_network.PORTS)
        if allowed(policies, from_, to, port)
        != (port in test_network.FLOWS.get((source, target), ()))
    ]


def by_place(mistakes: list[Mistake]) -> pytest.MarkDecorator:
    names = [f"{each[0]} {each[1]}" for each in mistakes]
    return pytest.mark.parametrize("mistake", mistakes, ids=names)


def with_mistake(mistake: Mistake) -> list[Object]:
    return changed(*mistake[:-1])


def test_there_is_none_to_find_at_first() -> None:
    assert trial.problems(copy.deepcopy(list(base().objects))) == []
    assert flows(list(base().objects)) == []


@pytest.fixture(scope="module")
def bare() -> Cluster:
    """A cluster with the namespace of k8s/ alone."""
    cluster = Cluster()
    assert trial.refusals(cluster, base().of_kind("Namespace")) == []
    return cluster


@by_place(REFUSED)
def test_the_server_refuses_it(mistake: Mistake, bare: Cluster) -> None:
    wrong = [each for each in with_mistake(mistake) if short_name(each) == mistake[0]]
    found = trial.refusals(bare, wrong)
    assert any(mistake[-1] in problem for problem in found), found


@by_place(BROKEN)
def test_it_does_not_run(mistake: Mistake) -> None:
    found = trial.problems(with_mistake(mistake))
    assert any(mistake[-1] in problem for problem in found), found


@by_place(OPEN)
def test_it_opens_or_closes_a_way(mistake: Mistake) -> None:
    assert mistake[-1] in flows(with_mistake(mistake))

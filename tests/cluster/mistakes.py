"""Mistakes that people make in manifests: each with the check that has to find it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.cluster import trial
from tests.cluster.schemas import Object
from tests.k8s import kuberay, network, references, security, serving, test_network
from tests.k8s.manifests import the

Check = Callable[[list[Object]], list[str]]


@dataclass(frozen=True)
class Mistake:
    """`make` changes the objects of k8s/; `words` are what the check's report must contain."""

    name: str
    make: Callable[[list[Object]], object]
    check: Check
    words: str


def flows(objects: list[Object]) -> list[str]:
    """Pairs of peers that the policies let talk otherwise than the design's table."""
    everyone = test_network.peers()
    return [
        f"{source} to {target} on {port}"
        for source, from_ in everyone.items()
        for target, to in everyone.items()
        if "mistral-serve" in (from_.namespace, to.namespace)
        for port in sorted(test_network.PORTS)
        if network.allowed(objects, from_, to, port)
        != (port in test_network.FLOWS.get((source, target), ()))
    ]


def _service(objects: list[Object]) -> Object:
    found: Object = the(objects, "RayService")["spec"]
    return found


def _cluster(objects: list[Object]) -> Object:
    found: Object = _service(objects)["rayClusterConfig"]
    return found


def _group(objects: list[Object], name: str) -> Object:
    groups: list[Object] = _cluster(objects)["workerGroupSpecs"]
    return next(group for group in groups if group["groupName"] == name)


def _pod(objects: list[Object], name: str) -> Object:
    """The spec of the pods of the head, of Redis, of the weights' Job or of a group."""
    if name == "head":
        found: Object = _cluster(objects)["headGroupSpec"]["template"]["spec"]
    elif name == "redis":
        found = the(objects, "StatefulSet", "redis")["spec"]["template"]["spec"]
    elif name == "weights":
        found = the(objects, "Job", "weights")["spec"]["template"]["spec"]
    else:
        found = _group(objects, name)["template"]["spec"]
    return found


def _container(objects: list[Object], name: str) -> Object:
    found: Object = _pod(objects, name)["containers"][0]
    return found


def _port(objects: list[Object], pod: str, name: str) -> Object:
    ports: list[Object] = _container(objects, pod)["ports"]
    return next(port for port in ports if port["name"] == name)


def _volume(objects: list[Object], pod: str, name: str) -> Object:
    volumes: list[Object] = _pod(objects, pod)["volumes"]
    return next(volume for volume in volumes if volume["name"] == name)


def _rename(where: Object, old: str, new: str) -> None:
    where[new] = where.pop(old)


def _of_schema() -> Iterator[Mistake]:
    yield Mistake(
        "a misspelt field of a built-in kind",
        lambda o: _rename(
            _pod(o, "redis"), "terminationGracePeriodSeconds", "terminationGracePeriod"
        ),
        trial.problems,
        'unknown field "spec.template.spec.terminationGracePeriod"',
    )
    yield Mistake(
        "a misspelt field of the RayService",
        lambda o: _rename(_cluster(o), "workerGroupSpecs", "workerGroups"),
        trial.problems,
        'unknown field "spec.rayClusterConfig.workerGroups"',
    )
    yield Mistake(
        "a misspelt field deep in the RayService",
        lambda o: _rename(_container(o, "engine"), "readinessProbe", "readyProbe"),
        trial.problems,
        'unknown field "spec.rayClusterConfig.workerGroupSpecs[1].template.spec.containers[0].'
        'readyProbe"',
    )
    yield Mistake(
        "a field at the wrong depth",
        lambda o: _container(o, "head").update(tolerations=[]),
        trial.problems,
        'containers[0].tolerations"',
    )
    yield Mistake(
        "a wrong type in a built-in kind",
        lambda o: _port(o, "redis", "redis").update(containerPort="redis"),
        trial.problems,
        "containerPort in body must be of type integer",
    )
    yield Mistake(
        "a wrong type in the RayService",
        lambda o: _group(o, "engine").update(replicas="2"),
        trial.problems,
        "spec.rayClusterConfig.workerGroupSpecs[1].replicas in body must be of type integer",
    )
    yield Mistake(
        "a start parameter that is a number",
        lambda o: _cluster(o)["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        trial.problems,
        "rayStartParams.num-cpus in body must be of type string",
    )
    yield Mistake(
        "a missing field",
        lambda o: _group(o, "engine").pop("groupName"),
        trial.problems,
        "spec.rayClusterConfig.workerGroupSpecs[1].groupName: Required value",
    )
    yield Mistake(
        "a value that a rule in CEL forbids",
        lambda o: _service(o).update(managedBy="us"),
        trial.problems,
        "the managedBy field value must be either",
    )
    yield Mistake(
        "an amount that is none",
        lambda o: _container(o, "engine")["resources"]["limits"].update(memory="48 GB"),
        trial.problems,
        "workerGroupSpecs[1].template.spec.containers[0].resources.limits.memory",
    )


def _of_server() -> Iterator[Mistake]:
    yield Mistake(
        "a label that no label may be",
        lambda o: the(o, "ServiceAccount", "workload")["metadata"]["labels"].update(of="a b"),
        trial.problems,
        "a valid label must be",
    )
    yield Mistake(
        "a selector that misses its own template",
        lambda o: _selector(the(o, "StatefulSet", "redis")).update({"app": "redis"}),
        trial.problems,
        "`selector` does not match template `labels`",
    )
    yield Mistake(
        "a port out of range",
        lambda o: the(o, "Service", "redis")["spec"]["ports"][0].update(port=637900),
        trial.problems,
        "must be between 1 and 65535",
    )
    yield Mistake(
        "a Job that restarts always",
        lambda o: _pod(o, "weights").update(restartPolicy="Always"),
        trial.problems,
        'Unsupported value: "Always"',
    )
    yield Mistake(
        "a namespace that nobody makes",
        lambda o: the(o, "Service", "redis")["metadata"].update(namespace="mistral"),
        trial.problems,
        'namespaces "mistral" not found',
    )
    yield Mistake(
        "fewer GPUs wanted than allowed",
        lambda o: _container(o, "engine")["resources"]["requests"].update({"nvidia.com/gpu": "1"}),
        trial.problems,
        "must be equal to nvidia.com/gpu limit",
    )
    yield Mistake(
        "a mount of no volume",
        lambda o: _container(o, "router")["volumeMounts"][0].update(name="shared"),
        trial.problems,
        'volumeMounts[0].name: Not found: "shared"',
    )
    yield Mistake(
        "a container that may become root",
        lambda o: _container(o, "head")["securityContext"].update(allowPrivilegeEscalation=True),
        trial.problems,
        'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
    )
    yield Mistake(
        "an autoscaler without the security context that its pod needs",
        lambda o: _cluster(o)["autoscalerOptions"].pop("securityContext"),
        trial.problems,
        '(container "autoscaler" must set',
    )
    yield Mistake(
        "a service account that nobody makes",
        lambda o: _pod(o, "engine").update(serviceAccountName="engine"),
        trial.problems,
        'serviceaccount "engine" not found',
    )
    yield Mistake(
        "a quota that is too small",
        lambda o: the(o, "ResourceQuota")["spec"]["hard"].update({"requests.nvidia.com/gpu": "3"}),
        trial.problems,
        "exceeded quota: mistral-serve, requested: requests.nvidia.com/gpu=2",
    )


def _of_references() -> Iterator[Mistake]:
    yield Mistake(
        "a Secret's key that nobody makes",
        lambda o: _environment(o, "redis", "REDIS_PASSWORD")["secretKeyRef"].update(key="redis"),
        trial.problems,
        "couldn't find key redis in Secret mistral-serve/redis-password",
    )
    yield Mistake(
        "a Secret's key that nobody makes, without a cluster",
        lambda o: _environment(o, "weights", "HF_TOKEN")["secretKeyRef"].update(key="token"),
        references.problems,
        "there is no key token in a Secret hf-token",
    )
    yield Mistake(
        "a claim that nobody makes",
        lambda o: _volume(o, "engine", "models")["persistentVolumeClaim"].update(claimName="model"),
        trial.problems,
        'persistentvolumeclaim "model" not found',
    )
    yield Mistake(
        "a ConfigMap that nobody makes",
        lambda o: _volume(o, "engine", "serve-config")["configMap"].update(name="serve"),
        trial.problems,
        'configmap "serve" not found',
    )
    yield Mistake(
        "a port that nobody listens on",
        lambda o: _port(o, "engine", "metrics").update(containerPort=9090),
        references.problems,
        "nothing listens on its port metrics, 9090",
    )
    yield Mistake(
        "a probe of a port that nobody listens on",
        lambda o: _container(o, "engine")["readinessProbe"]["httpGet"].update(port=8000),
        references.problems,
        "its readinessProbe asks port 8000, where nothing listens",
    )
    yield Mistake(
        "a Service whose port is not the one that others ask for",
        lambda o: the(o, "Service", "redis")["spec"]["ports"][0].update(port=6380),
        references.problems,
        "no Service listens at its redisAddress redis.mistral-serve.svc:6379",
    )
    yield Mistake(
        "clients sent to a port that no pod has",
        lambda o: _service(o)["serveService"]["spec"]["ports"][0].update(targetPort="http"),
        trial.problems,
        "RayService mistral: is not ready",
    )
    yield Mistake(
        "a disruption budget for no pod",
        lambda o: _selector(the(o, "PodDisruptionBudget", "engine")).update(
            {"app.kubernetes.io/component": "engines"}
        ),
        references.problems,
        "PodDisruptionBudget engine: selects no pod",
    )
    yield Mistake(
        "a disruption budget that blocks every drain",
        lambda o: the(o, "PodDisruptionBudget", "engine")["spec"].update(minAvailable=2),
        trial.problems,
        "PodDisruptionBudget engine: allows no disruption",
    )
    yield Mistake(
        "a disruption budget of a kind that Ray's pods do not take",
        lambda o: _rename(
            the(o, "PodDisruptionBudget", "engine")["spec"], "minAvailable", "maxUnavailable"
        ),
        serving.problems,
        "PodDisruptionBudget engine: Ray's pods take minAvailable",
    )


def _of_service() -> Iterator[Mistake]:
    yield Mistake(
        "a grace period that cuts answers",
        lambda o: _pod(o, "engine").update(terminationGracePeriodSeconds=60),
        serving.problems,
        "killed after 60 s, and draining may take 1260",
    )
    yield Mistake(
        "an old cluster that goes before its answers end",
        lambda o: _service(o).update(rayClusterDeletionDelaySeconds=60),
        serving.problems,
        "rayClusterDeletionDelaySeconds: an answer may take 600 s",
    )
    yield Mistake(
        "another Ray than the image has",
        lambda o: _cluster(o).update(rayVersion="2.54.0"),
        serving.problems,
        "rayVersion: the lock has Ray",
    )
    yield Mistake(
        "a misspelt field in serveConfigV2",
        lambda o: _service(o).update(
            serveConfigV2=_service(o)["serveConfigV2"].replace("replicas:", "replica:")
        ),
        serving.problems,
        "replica",
    )
    yield Mistake(
        "an upgrade strategy that KubeRay does not know",
        lambda o: _service(o)["upgradeStrategy"].update(type="RollingUpdate"),
        kuberay.problems,
        "upgradeStrategy.type: one of",
    )
    yield Mistake(
        "a restart policy that the autoscaler does not take",
        lambda o: _pod(o, "router").update(restartPolicy="Always"),
        kuberay.problems,
        "restartPolicy is Never with autoscaler v2",
    )
    yield Mistake(
        "a secret in clear text",
        lambda o: _container(o, "engine")["env"].append({"name": "HF_TOKEN", "value": "hf_x"}),
        security.problems,
        "HF_TOKEN stands in the manifest",
    )
    yield Mistake(
        "an image that changes under its name",
        lambda o: _container(o, "engine").update(image="registry.example.com/serve:latest"),
        security.problems,
        "its image is not named with registry and tag or digest",
    )
    yield Mistake(
        "Ray's dashboard open to clients",
        lambda o: _ingress(o, "clients-to-routers").pop("ports"),
        flows,
        "client to router on 52365",
    )
    yield Mistake(
        "a network policy for another label than the pods have",
        lambda o: _ingress(o, "redis-from-head")["from"][0].update(
            podSelector={"matchLabels": {"app": "ray"}}
        ),
        flows,
        "head to redis on 6379",
    )


def _selector(owner: Object) -> Object:
    found: Object = owner["spec"]["selector"]["matchLabels"]
    return found


def _environment(objects: list[Object], pod: str, name: str) -> Object:
    variables: list[Object] = _container(objects, pod)["env"]
    found: Object = next(each for each in variables if each["name"] == name)["valueFrom"]
    return found


def _ingress(objects: list[Object], policy: str) -> Object:
    found: Object = the(objects, "NetworkPolicy", policy)["spec"]["ingress"][0]
    return found


MISTAKES = [
    *_of_schema(),
    *_of_server(),
    *_of_references(),
    *_of_service(),
]
CHECKS = {mistake.check for mistake in MISTAKES}


def slug(mistake: Mistake) -> str:
    return re.sub(r"\W+", "-", mistake.name)

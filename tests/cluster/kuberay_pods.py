"""The pods that KubeRay makes of a RayCluster, and its Job that cleans Redis."""

from tests.cluster.schemas import Object
from tests.cluster.store import copied

EXCLUDE_HEAD = "test/exclude-head"
# What the operator adds to pods, with the resources that it asks for.
_WAIT_FOR_HEAD = {"cpu": "200m", "memory": "256Mi"}
_AUTOSCALER = {"cpu": "500m", "memory": "512Mi"}
_CLEANUP = {"cpu": "200m", "memory": "256Mi"}


def pods_of(cluster: Object) -> list[Object]:
    spec = cluster["spec"]
    head = _pod(cluster, spec["headGroupSpec"]["template"], "head", "headgroup", "head")
    if cluster["metadata"]["annotations"][EXCLUDE_HEAD] == "true":
        head["metadata"]["labels"]["ray.io/serve"] = "false"
    tolerance = spec.get("gcsFaultToleranceOptions", {})
    for name, field in (("REDIS_USERNAME", "redisUsername"), ("REDIS_PASSWORD", "redisPassword")):
        if field in tolerance:
            variables = head["spec"]["containers"][0].setdefault("env", [])
            variables.append({"name": name, **tolerance[field]})
    if spec.get("enableInTreeAutoscaling"):
        options = spec.get("autoscalerOptions", {})
        amounts = {"limits": _AUTOSCALER, "requests": _AUTOSCALER}
        sidecar = {
            "name": "autoscaler",
            "image": options.get("image", head["spec"]["containers"][0]["image"]),
            "resources": options.get("resources", amounts),
        }
        for name in ("securityContext", "env", "envFrom", "volumeMounts", "command", "args"):
            if name in options:
                sidecar[name] = copied(options[name])
        head["spec"]["containers"].append(sidecar)
        for container in (head["spec"]["containers"][0], sidecar):
            _mount(head["spec"], container, "/tmp/ray", {"name": "ray-logs", "emptyDir": {}})
        head["spec"].setdefault("serviceAccountName", cluster["metadata"]["name"])
        head["spec"]["restartPolicy"] = "Never"
    pods = [head]
    for group in spec.get("workerGroupSpecs", ()):
        replicas = max(group.get("replicas", 0), group.get("minReplicas", 0))
        for index in range(replicas * group.get("numOfHosts", 1)):
            name = f"{group['groupName']}-worker-{index}"
            pod = _pod(cluster, group["template"], "worker", group["groupName"], name)
            first = pod["spec"]["containers"][0]
            wait = {
                "name": "wait-gcs-ready",
                "image": first["image"],
                "resources": {"limits": _WAIT_FOR_HEAD, "requests": _WAIT_FOR_HEAD},
            }
            if "securityContext" in first:
                wait["securityContext"] = first["securityContext"]
            pod["spec"].setdefault("initContainers", []).append(wait)
            pods.append(pod)
    auth = spec.get("authOptions", {})
    if auth.get("mode") == "token" and "secretName" in auth:
        token = {"name": auth["secretName"], "key": "auth_token"}
        for pod in pods:
            for container in pod["spec"]["containers"]:
                variables = container.setdefault("env", [])
                variables.append({"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": token}})
    return pods


def _pod(cluster: Object, template: Object, node_type: str, group: str, name: str) -> Object:
    made = copied(template)
    metadata = made.get("metadata", {})
    cluster_name = cluster["metadata"]["name"]
    labels = {
        "ray.io/cluster": cluster_name,
        "ray.io/node-type": node_type,
        "ray.io/group": group,
        "ray.io/is-ray-node": "yes",
        "ray.io/identifier": f"{cluster_name}-{node_type}"[:63],
        "ray.io/serve": "true",
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
    }
    spec = made["spec"]
    memory = {"name": "shared-mem", "emptyDir": {"medium": "Memory"}}
    _mount(spec, spec["containers"][0], "/dev/shm", memory)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{cluster_name}-{name}",
            "labels": metadata.get("labels", {}) | labels,
            "annotations": metadata.get("annotations", {}),
        },
        "spec": spec,
    }


def _mount(spec: Object, container: Object, path: str, volume: Object) -> None:
    """Mounts a volume where the container has none, as `addEmptyDir` of the operator."""
    mounts = container.setdefault("volumeMounts", [])
    if any(mount["mountPath"] == path for mount in mounts):
        return
    volumes = spec.setdefault("volumes", [])
    if all(each["name"] != volume["name"] for each in volumes):
        volumes.append(volume)
    mounts.append({"name": volume["name"], "mountPath": path})


def cleanup_job(cluster: Object) -> Object:
    """The Job that deletes a cluster's state from Redis, as `buildRedisCleanupJob`."""
    pod = pods_of(cluster)[0]
    labels = pod["metadata"]["labels"] | {"ray.io/node-type": "redis-cleanup"}
    ray = pod["spec"]["containers"][0]
    for probe in ("livenessProbe", "readinessProbe"):
        ray.pop(probe, None)
    ray |= {"command": ["python"], "resources": {"limits": _CLEANUP, "requests": _CLEANUP}}
    spec = pod["spec"] | {"containers": [ray], "restartPolicy": "Never"}
    name = f"{cluster['metadata']['name']}-redis-cleanup"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 300,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }

"""What one manifest names must exist in another."""

from collections.abc import Iterable, Iterator

from tests.cluster.selectors import label_selector_matches
from tests.k8s.manifests import Object, Pod, in_steps, name, of_kind, pods

MADE_BY_HAND = {
    "hf-token": {"HF_TOKEN"},
    "redis-password": {"password"},
    "ray-auth-token": {"auth_token"},
}
"""The Secrets that deploy/secrets.sh makes, and their keys."""

OF_THE_CLUSTER = {("ConfigMap", "kube-root-ca.crt")}
"""What Kubernetes puts into each namespace."""

CLUSTER_WIDE = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding", "GatewayClass"}

LISTENERS = {
    "head": {6379, 8265, 8080, 44217, 44227, 10001, 52365},
    "router": {8000, 8080, 52365},
    "engine": {8080, 52365},
    "redis": {6379},
    "weights": set(),
}
"""The ports that each component listens on."""


def problems(objects: list[Object]) -> list[str]:
    return [
        *_namespaces(objects),
        *_duplicates(objects),
        *(problem for pod in pods(objects) for problem in _pod(pod, objects)),
        *_selectors(objects),
        *_services(objects),
        *_ray(objects),
        *_bindings(objects),
    ]


def _namespaces(objects: list[Object]) -> Iterator[str]:
    known = {object_["metadata"]["name"] for object_ in of_kind(objects, "Namespace")}
    for object_ in objects:
        namespace = object_["metadata"].get("namespace")
        if object_["kind"] in CLUSTER_WIDE:
            if namespace is not None:
                yield f"{name(object_)}: has a namespace, and belongs to the whole cluster"
        elif namespace is None:
            yield f"{name(object_)}: has no namespace, and would land in the current one"
        elif namespace not in known:
            yield f"{name(object_)}: no manifest makes its namespace {namespace}"


def _duplicates(objects: list[Object]) -> Iterator[str]:
    names = [name(object_) for object_ in objects]
    yield from (f"{twice}: stands twice" for twice in {n for n in names if names.count(n) > 1})


def _has(objects: Iterable[Object], kind: str, wanted: str) -> bool:
    return (kind, wanted) in OF_THE_CLUSTER or any(
        object_["metadata"]["name"] == wanted for object_ in of_kind(objects, kind)
    )


def _pod(pod: Pod, objects: list[Object]) -> Iterator[str]:
    spec = pod.spec
    for kind, wanted in (
        ("ServiceAccount", spec.get("serviceAccountName")),
        ("PriorityClass", spec.get("priorityClassName")),
    ):
        if wanted is not None and not _has(objects, kind, wanted):
            yield f"{pod.owner}: there is no {kind} {wanted}"
    yield from _volumes(pod, objects)
    yield from _ports(pod, any(map(in_steps, of_kind(objects, "RayService"))))
    for constraint in spec.get("topologySpreadConstraints", ()):
        if not label_selector_matches(constraint.get("labelSelector"), pod.labels):
            yield f"{pod.owner}: its topologySpreadConstraint does not select it"
    for container in pod.containers:
        for variable in container.get("env", ()):
            source = variable.get("valueFrom", {})
            if reference := source.get("secretKeyRef"):
                yield from _secret_key(f"{pod.owner}: {variable['name']}", reference)
            if reference := source.get("configMapKeyRef"):
                yield from _config_key(pod, reference["name"], reference["key"], objects)


def _secret_key(where: str, reference: Object) -> Iterator[str]:
    if reference["key"] not in MADE_BY_HAND.get(reference["name"], ()):
        yield f"{where}: there is no key {reference['key']} in a Secret {reference['name']}"


def _config_key(pod: Pod, wanted: str, key: str, objects: list[Object]) -> Iterator[str]:
    if ("ConfigMap", wanted) in OF_THE_CLUSTER:
        return
    data = [o["data"] for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == wanted]
    if not data or key not in data[0]:
        yield f"{pod.owner}: there is no key {key} in a ConfigMap {wanted}"


def _volumes(pod: Pod, objects: list[Object]) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
    claims = {
        template["metadata"]["name"]
        for stateful_set in of_kind(objects, "StatefulSet")
        if name(stateful_set) == pod.owner
        for template in stateful_set["spec"].get("volumeClaimTemplates", ())
    }
    mounted = {m["name"] for c in pod.containers for m in c.get("volumeMounts", ())}
    for missing in mounted - volumes.keys() - claims:
        yield f"{pod.owner}: mounts {missing}, which is no volume of it"
    # Only the autoscaler's container has it, which a cleaning Job is without.
    for unused in volumes.keys() - mounted - {"api-token"}:
        yield f"{pod.owner}: the volume {unused} is mounted nowhere"
    for volume in volumes.values():
        where = f"{pod.owner}: the volume {volume['name']}"
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim is not None and not _has(objects, "PersistentVolumeClaim", claim):
            yield f"{where}: there is no PersistentVolumeClaim {claim}"
        sources = [volume, *volume.get("projected", {}).get("sources", ())]
        for source in sources:
            if config_map := source.get("configMap"):
                if not _has(objects, "ConfigMap", config_map["name"]):
                    yield f"{where}: there is no ConfigMap {config_map['name']}"
                for item in config_map.get("items", ()):
                    yield from _config_key(pod, config_map["name"], item["key"], objects)
            if secret := source.get("secret"):
                wanted = secret.get("secretName", secret.get("name"))
                if wanted not in MADE_BY_HAND:
                    yield f"{where}: there is no Secret {wanted}"


def _ports(pod: Pod, upgraded_in_steps: bool) -> Iterator[str]:
    listening = LISTENERS[pod.component]
    if pod.component == "head" and upgraded_in_steps:
        listening = listening | {8000}  # nothing does, but KubeRay makes no Service without
    for container in pod.containers:
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for port_name, number in ports.items():
            if number not in listening:
                yield f"{pod.owner}: nothing listens on its port {port_name}, {number}"
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            action = container.get(probe, {})
            target = (action.get("httpGet") or action.get("tcpSocket") or {}).get("port")
            if isinstance(target, str) and target not in ports:
                yield f"{pod.owner}: its {probe} asks the port {target}, which it does not have"
            elif isinstance(target, int) and target not in listening:
                yield f"{pod.owner}: its {probe} asks port {target}, where nothing listens"


def _selectors(objects: list[Object]) -> Iterator[str]:
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for object_ in of_kind(objects, kind):
            if object_["spec"][field] in _gateway_selectors(objects):
                continue
            if not _selected(object_, object_["spec"][field], objects):
                yield f"{name(object_)}: selects no pod"
    for monitor in of_kind(objects, "PodMonitor"):
        selected = _selected(monitor, monitor["spec"]["selector"], objects)
        if not selected:
            yield f"{name(monitor)}: selects no pod"
        for pod in selected:
            ports = {port["name"] for c in pod.containers for port in c.get("ports", ())}
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                # KubeRay's Job that cleans Redis has the labels of the head, but for its type.
                if endpoint["port"] not in ports:
                    yield f"{name(monitor)}: {pod.owner} has no port {endpoint['port']}"


def _gateway_selectors(objects: list[Object]) -> list[Object]:
    """Of the pods that a controller runs for the Gateway that KubeRay makes."""
    return [
        {
            "matchLabels": {
                "gateway.networking.k8s.io/gateway-name": f"{o['metadata']['name']}-gateway"
            }
        }
        for o in of_kind(objects, "RayService")
        if in_steps(o)
    ]


def _selected(object_: Object, selector: Object, objects: list[Object]) -> list[Pod]:
    """A monitor stands in its pods' namespace too."""
    namespace = object_["metadata"]["namespace"]
    return [
        p
        for p in pods(objects)
        if p.namespace == namespace and label_selector_matches(selector, p.labels)
    ]


def _services(objects: list[Object]) -> Iterator[str]:
    for service in of_kind(objects, "Service"):
        selected = _selected(service, {"matchLabels": service["spec"]["selector"]}, objects)
        if not selected:
            yield f"{name(service)}: selects no pod"
        for pod in selected:
            yield from _target_ports(name(service), service["spec"], pod)
    for stateful_set in of_kind(objects, "StatefulSet"):
        if not _has(objects, "Service", stateful_set["spec"]["serviceName"]):
            yield f"{name(stateful_set)}: there is no Service {stateful_set['spec']['serviceName']}"


def _target_ports(where: str, service_spec: Object, pod: Pod) -> Iterator[str]:
    ports = {port["name"]: port["containerPort"] for c in pod.containers for port in c["ports"]}
    for port in service_spec["ports"]:
        target = port.get("targetPort", port["port"])
        if target not in ports and target not in ports.values():
            yield f"{where}: {pod.owner} has no port {target}"


def serve_service(rayservice: Object) -> tuple[str, int]:
    """Name and port of the Service that KubeRay makes for clients."""
    (port,) = rayservice["spec"]["serveService"]["spec"]["ports"]
    return f"{rayservice['metadata']['name']}-serve-svc", port["port"]


def _ray(objects: list[Object]) -> Iterator[str]:
    for rayservice in of_kind(objects, "RayService"):
        cluster = rayservice["spec"]["rayClusterConfig"]
        if secret := cluster.get("authOptions", {}).get("secretName"):
            reference = {"name": secret, "key": "auth_token"}
            yield from _secret_key(f"{name(rayservice)}: authOptions", reference)
        redis = cluster.get("gcsFaultToleranceOptions", {})
        if reference := redis.get("redisPassword", {}).get("valueFrom", {}).get("secretKeyRef"):
            yield from _secret_key(f"{name(rayservice)}: redisPassword", reference)
        if address := redis.get("redisAddress"):
            host, _, port = address.partition(":")
            wanted = [*host.split("."), rayservice["metadata"]["namespace"]][:2]
            if not any(
                [o["metadata"]["name"], o["metadata"]["namespace"]] == wanted
                and int(port) in [p["port"] for p in o["spec"]["ports"]]
                for o in of_kind(objects, "Service")
            ):
                yield f"{name(rayservice)}: no Service listens at its redisAddress {address}"
        yield from _serve_endpoints(rayservice, objects)
        yield from _route_backends(rayservice, objects)


def _serve_endpoints(rayservice: Object, objects: list[Object]) -> Iterator[str]:
    """Clients must reach routers and no other pod: KubeRay selects all of a cluster's workers, and
    a named targetPort leaves those out that have no port of that name."""
    for port in rayservice["spec"].get("serveService", {}).get("spec", {}).get("ports", ()):
        reached = [
            pod
            for pod in pods([rayservice])
            if pod.labels["ray.io/serve"] == "true"
            and any(
                p["name"] == port["targetPort"] for c in pod.containers for p in c.get("ports", ())
            )
        ]
        if not any(pod.component == "router" for pod in reached):
            yield f"{name(rayservice)}: no router is behind the port {port['port']} for clients"
        for pod in reached:
            if pod.component == "engine":
                yield f"{name(rayservice)}: {pod.owner} is behind the port for clients"


def _route_backends(rayservice: Object, objects: list[Object]) -> Iterator[str]:
    for route in of_kind(objects, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if (backend["name"], backend["port"]) != serve_service(rayservice):
                    yield f"{name(route)}: there is no Service {backend['name']}:{backend['port']}"


def _bindings(objects: list[Object]) -> Iterator[str]:
    for binding in of_kind(objects, "RoleBinding"):
        if not _has(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"]):
            yield f"{name(binding)}: there is no Role {binding['roleRef']['name']}"
        for subject in binding["subjects"]:
            if subject["kind"] == "ServiceAccount" and not _has(
                objects, "ServiceAccount", subject["name"]
            ):
                yield f"{name(binding)}: there is no ServiceAccount {subject['name']}"

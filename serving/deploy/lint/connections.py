"""Rules of reach: Services, probes, budgets, policies and monitors find their pods and ports."""

from collections.abc import Iterator

from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, report_on
from serving.deploy.lint.pods import Pod, pods, ray_pods, upgraded_in_steps
from serving.deploy.lint.references import has
from serving.deploy.manifests import Manifests, Object
from serving.deploy.selectors import selects

LISTENERS: dict[str, set[int]] = {
    "head": {6379, 8265, 8080, 44217, 44227, 10001, 52365},
    "router": {8000, 8080, 52365},
    "engine": {8080, 52365},
    "redis": {6379},
    "weights": set(),
}
"""The ports that each component listens on."""

_PROBES = ("readinessProbe", "livenessProbe", "startupProbe")


def problems(manifests: Manifests) -> Iterator[Finding]:
    for pod in pods(manifests):
        yield from _ports(pod, upgraded_in_steps(manifests.service))
    yield from _selectors(manifests)
    yield from _monitors(manifests)
    yield from _services(manifests)
    yield from _redis_address(manifests)
    yield from _clients(manifests.service)
    yield from _routes(manifests)


def ports_of(pod: Pod) -> dict[str, int]:
    """The numbers of a pod's ports by their names."""
    return {
        port.get("name", ""): port["containerPort"]
        for container in pod.containers
        for port in container.get("ports", ())
    }


def _ports(pod: Pod, in_steps: bool) -> Iterator[Finding]:
    wrong, listening = report_on(pod.owner, "connections"), LISTENERS.get(pod.component)
    if listening is None:
        return
    if pod.component == "head" and in_steps:
        listening = listening | {8000}  # nothing does, but KubeRay makes no Service without
    for container in pod.containers:
        ports = {port.get("name", ""): port["containerPort"] for port in container.get("ports", ())}
        for name, number in ports.items():
            if number not in listening:
                yield wrong(
                    "port",
                    f"nothing listens on its port {name}, {number}",
                    "remove it, or set the number that the process listens on",
                )
        for probe in _PROBES:
            action = container.get(probe, {})
            target = (action.get("httpGet") or action.get("tcpSocket") or {}).get("port")
            if isinstance(target, str) and target not in ports:
                yield wrong(
                    "probe-port-name",
                    f"its {probe} asks the port {target}, which it does not have",
                    "name a port of the container",
                )
            elif isinstance(target, int) and target not in listening:
                yield wrong(
                    "probe-port",
                    f"its {probe} asks port {target}, where nothing listens",
                    f"ask one of {', '.join(map(str, sorted(listening)))}",
                )


def _selected(obj: Object, selector: Object, manifests: Manifests) -> list[Pod]:
    """The pods that a selector matches in the object's own namespace."""
    namespace = obj["metadata"].get("namespace", "default")
    return [
        pod
        for pod in pods(manifests)
        if pod.namespace == namespace and selects(selector, pod.labels)
    ]


def _selectors(manifests: Manifests) -> Iterator[Finding]:
    service = manifests.service
    gateway = f"{service['metadata']['name']}-gateway"
    gateway_pods = {"matchLabels": {"gateway.networking.k8s.io/gateway-name": gateway}}
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for obj in manifests.of_kind(kind):
            selector = obj["spec"][field]
            if upgraded_in_steps(service) and selector == gateway_pods:
                continue  # a controller runs them for the Gateway that KubeRay makes
            if not _selected(obj, selector, manifests):
                yield report_on(named(obj), "connections")(
                    "selects-nothing", "selects no pod", f"correct {field}, or remove the {kind}"
                )


def _monitors(manifests: Manifests) -> Iterator[Finding]:
    for monitor in manifests.of_kind("PodMonitor"):
        wrong = report_on(named(monitor), "connections")
        selected = _selected(monitor, monitor["spec"]["selector"], manifests)
        if not selected:
            yield wrong("monitor-selects-nothing", "selects no pod", "correct its selector")
        for pod in selected:
            for endpoint in monitor["spec"].get("podMetricsEndpoints", ()):
                if endpoint.get("port", "") not in ports_of(pod):
                    yield wrong(
                        "monitor-port",
                        f"{pod.owner} has no port {endpoint.get('port')}",
                        "add it to the pod, or correct podMetricsEndpoints",
                    )


def _services(manifests: Manifests) -> Iterator[Finding]:
    for service in manifests.of_kind("Service"):
        wrong, spec = report_on(named(service), "connections"), service["spec"]
        if "selector" not in spec:
            continue  # its endpoints are somebody else's
        selected = _selected(service, {"matchLabels": spec["selector"]}, manifests)
        if not selected:
            yield wrong("service-selects-nothing", "selects no pod", "correct spec.selector")
        for pod in selected:
            ports = ports_of(pod)
            for port in spec.get("ports", ()):
                target = port.get("targetPort", port["port"])
                if target not in ports and target not in ports.values():
                    yield wrong(
                        "service-port",
                        f"{pod.owner} has no port {target}",
                        "correct targetPort, or add the port to the pod",
                    )
    for stateful_set in manifests.of_kind("StatefulSet"):
        name = stateful_set["spec"].get("serviceName")
        if name is not None and not has(manifests, "Service", name):
            yield report_on(named(stateful_set), "connections")(
                "stateful-set-service", f"there is no Service {name}", "add it, or correct the name"
            )


def _redis_address(manifests: Manifests) -> Iterator[Finding]:
    """Checks that a Service is behind an address of this cluster's DNS."""
    cluster, metadata = manifests.service["spec"]["rayClusterConfig"], manifests.service["metadata"]
    address = cluster.get("gcsFaultToleranceOptions", {}).get("redisAddress")
    if address is None:
        return
    host, _, port = address.partition(":")
    parts = host.split(".")
    if len(parts) > 2 and parts[2] != "svc":
        return
    wanted = [*parts, metadata.get("namespace", "default")][:2]
    if not any(
        [obj["metadata"]["name"], obj["metadata"].get("namespace", "default")] == wanted
        and int(port) in [p["port"] for p in obj["spec"].get("ports", ())]
        for obj in manifests.of_kind("Service")
    ):
        yield report_on(named(manifests.service), "connections")(
            "redis-address",
            f"no Service listens at its redisAddress {address}",
            "correct the address, or add the Service",
        )


def serve_service(service: Object) -> tuple[str, list[int]]:
    """Name and ports of the Service that KubeRay makes for clients."""
    ports = service["spec"].get("serveService", {}).get("spec", {}).get("ports", ())
    numbers = [port["port"] for port in ports]
    return f"{service['metadata']['name']}-serve-svc", numbers or [8000]


def _clients(service: Object) -> Iterator[Finding]:
    """Checks that clients reach routers only: KubeRay selects all workers of a cluster, and a named
    targetPort leaves out those that have no port of that name.
    """
    wrong = report_on(named(service), "connections")
    for port in service["spec"].get("serveService", {}).get("spec", {}).get("ports", ()):
        target = port.get("targetPort", port["port"])
        workers = [pod for pod in ray_pods(service) if pod.node_type == "worker"]
        reached = [pod for pod in workers if target in ports_of(pod) or not isinstance(target, str)]
        if not any(pod.component == "router" and target in ports_of(pod) for pod in reached):
            yield wrong(
                "clients-without-router",
                f"no router is behind the port {port['port']} for clients by a port's name",
                "give serveService the targetPort serve, and the router's container that port",
            )
        for pod in reached:
            if pod.component == "engine":
                yield wrong(
                    "clients-to-engine",
                    f"{pod.owner} is behind the port {port['port']} for clients",
                    "name a targetPort that routers alone have, such as serve",
                )


def _routes(manifests: Manifests) -> Iterator[Finding]:
    name, ports = serve_service(manifests.service)
    known = {(name, port) for port in ports} | {
        (service["metadata"]["name"], port["port"])
        for service in manifests.of_kind("Service")
        for port in service["spec"].get("ports", ())
    }
    for route in manifests.of_kind("HTTPRoute"):
        for rule in route["spec"].get("rules", ()):
            for backend in rule.get("backendRefs", ()):
                if (backend["name"], backend.get("port")) not in known:
                    yield report_on(named(route), "connections")(
                        "route-backend",
                        f"there is no Service {backend['name']}:{backend.get('port')}",
                        f"route to {name}:{ports[0]}",
                    )

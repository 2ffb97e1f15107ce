"""Rules of reach: Services, probes, budgets, policies and monitors find their pods and ports."""

from collections.abc import Iterator

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import Pod, namespace_of, pods, ports_of, ray_pods, upgraded_in_steps
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.selectors import selects
from serving.tenants.authentication_config import is_loopback

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
    yield from _redis_address(manifests)
    yield from _clients(manifests.service)
    yield from _routes(manifests)


def hosts(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    """Checks that routers and engines listen where other pods reach them."""
    wrong = report_on(named(manifests.service), "connections")
    if is_loopback(config.router.host):
        what = f"router.host is {config.router.host}: neither clients nor probes reach the routers"
        yield wrong("router-host", what)
    for model in config.models:
        if model.host is not None and is_loopback(model.host):
            what = f"its host is {model.host}, where routers of other pods do not reach it"
            yield wrong("engine-host", f"{model.entry.id}: {what}")


def _ports(pod: Pod, in_steps: bool) -> Iterator[Finding]:
    wrong, listening = report_on(pod.owner, "connections"), LISTENERS.get(pod.component)
    if listening is None:
        return
    if pod.component == "head" and in_steps:
        listening = listening | {8000}  # nothing does, but KubeRay makes no Service without
    for container in pod.containers:
        ports = ports_of(container)
        for name, number in ports.items():
            if number not in listening:
                yield wrong("port", f"nothing listens on its port {name}, {number}")
        for probe in _PROBES:
            action = container.get(probe, {})
            target = (action.get("httpGet") or action.get("tcpSocket") or {}).get("port")
            if isinstance(target, str) and target not in ports:
                yield wrong("probe-port-name", f"its {probe} asks {target}, no port of its own")
            elif isinstance(target, int) and target not in listening:
                yield wrong("probe-port", f"its {probe} asks port {target}, where nothing listens")


def _selector(obj: Object) -> tuple[Object | None, list[int | str]]:
    """An object's selector of pods, and the ports that those must have."""
    spec = obj["spec"]
    if obj["kind"] == "Service":
        selector = {"matchLabels": spec["selector"]} if "selector" in spec else None
        return selector, [_target(port) for port in spec.get("ports", ())]
    endpoints = spec.get("podMetricsEndpoints", ())
    selector = spec["podSelector" if obj["kind"] == "NetworkPolicy" else "selector"]
    return selector, [endpoint.get("port", "") for endpoint in endpoints]


def _target(port: Object) -> int | str:
    found: int | str = port.get("targetPort") or port["port"]
    return found


def _selectors(manifests: Manifests) -> Iterator[Finding]:
    service, everyone = manifests.service, pods(manifests)
    gateway = f"{service['metadata']['name']}-gateway"
    gateway_pods = {"matchLabels": {"gateway.networking.k8s.io/gateway-name": gateway}}
    kinds = ("PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "Service")
    for obj in manifests.of_kind(*kinds):
        wrong, (selector, ports) = report_on(named(obj), "connections"), _selector(obj)
        if selector is None:
            continue  # a Service whose endpoints are somebody else's
        if upgraded_in_steps(service) and selector == gateway_pods:
            continue  # a controller runs them for the Gateway that KubeRay makes
        near = [pod for pod in everyone if pod.namespace == namespace_of(obj)]
        selected = [pod for pod in near if selects(selector, pod.labels)]
        if not selected:
            yield wrong("selects-nothing", "selects no pod")
        for pod in selected:
            for port in ports:
                if port not in pod.ports and port not in pod.ports.values():
                    yield wrong("target-port", f"{pod.owner} has no port {port}")


def _service_ports(manifests: Manifests) -> set[tuple[str, str, int]]:
    """Namespace, name and port of all that Services listen on."""
    return {
        (namespace_of(service), service["metadata"]["name"], port["port"])
        for service in manifests.of_kind("Service")
        for port in service["spec"].get("ports", ())
    }


def is_listened_to(manifests: Manifests, host: str, port: int) -> bool:
    """Whether a Service is behind an address; one that is not of this cluster's DNS is believed."""
    parts = host.split(".")
    if len(parts) > 2 and parts[2] != "svc":
        return True
    name, namespace = [*parts, namespace_of(manifests.service)][:2]
    return (namespace, name, port) in _service_ports(manifests)


def _redis_address(manifests: Manifests) -> Iterator[Finding]:
    service = manifests.service
    address = (
        service["spec"]["rayClusterConfig"].get("gcsFaultToleranceOptions", {}).get("redisAddress")
    )
    if address is None:
        return
    host, _, port = address.partition(":")
    if not is_listened_to(manifests, host, int(port)):
        yield report_on(named(service), "connections")(
            "redis-address", f"no Service listens at its redisAddress {address}"
        )


def _client_ports(service: Object) -> list[Object]:
    """The ports of the Service that KubeRay makes for clients."""
    return list(service["spec"].get("serveService", {}).get("spec", {}).get("ports", ()))


def _clients(service: Object) -> Iterator[Finding]:
    """Checks that clients reach routers only: KubeRay selects all workers of a cluster, and a named
    targetPort leaves out those that have no port of that name.
    """
    wrong = report_on(named(service), "connections")
    workers = [pod for pod in ray_pods(service) if pod.node_type == "worker"]
    for port in _client_ports(service):
        target, where = _target(port), f"behind the port {port['port']} for clients"
        reached = [pod for pod in workers if target in pod.ports or not isinstance(target, str)]
        if not any(pod.component == "router" and target in pod.ports for pod in reached):
            yield wrong("clients-without-router", f"no router is {where} by a port's name")
        for pod in reached:
            if pod.component == "engine":
                yield wrong("clients-to-engine", f"{pod.owner} is {where}")


def _routes(manifests: Manifests) -> Iterator[Finding]:
    name = f"{manifests.service['metadata']['name']}-serve-svc"
    known = {(name, port["port"]) for port in _client_ports(manifests.service) or [{"port": 8000}]}
    known |= {(name, port) for _, name, port in _service_ports(manifests)}
    for route in manifests.of_kind("HTTPRoute"):
        for rule in route["spec"].get("rules", ()):
            for backend in rule.get("backendRefs", ()):
                name, port = backend["name"], backend.get("port")
                if (name, port) not in known:
                    yield report_on(named(route), "connections")(
                        "route-backend", f"there is no Service {name}:{port}"
                    )

"""What the API server checks of the spec of a pod beyond its schema."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from tests.cluster.errors import Cause, absent, duplicate, invalid_value, required
from tests.cluster.schemas import Object

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# IANA's names of services, which names of ports have to be.
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def containers_of(spec: Object) -> Iterator[tuple[str, Object]]:
    """Each container with its path within the spec."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield f"{field}[{index}]", container


def quantity(value: object) -> Decimal:
    """ValueError for what Kubernetes cannot read as a quantity."""
    return Decimal(parse_quantity(value))


def pod_causes(path: str, spec: Object, claimed: Sequence[str] = ()) -> Iterator[Cause]:
    """`claimed`: the volumes that come of a StatefulSet's claims."""
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes = list(claimed)
    for index, volume in enumerate(spec.get("volumes") or ()):
        where = f"{path}.volumes[{index}]"
        if volume["name"] in volumes:
            yield duplicate(f"{where}.name", volume["name"])
        if not _NAME.fullmatch(volume["name"]):
            yield invalid_value(f"{where}.name", volume["name"], "an RFC 1123 label is needed")
        if len(volume) != 2:
            yield required(where, "must specify exactly one volume type")
        volumes.append(volume["name"])
    names: list[str] = []
    for where, container in containers_of(spec):
        if container["name"] in names:
            yield duplicate(f"{path}.{where}.name", container["name"])
        names.append(container["name"])
        yield from _container(f"{path}.{where}", container, volumes)
    grace_s = spec.get("terminationGracePeriodSeconds", 30)
    if grace_s < 0:
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace_s, "must be at least 0")


def _container(path: str, container: Object, volumes: list[str]) -> Iterator[Cause]:
    if not _NAME.fullmatch(container["name"]):
        yield invalid_value(f"{path}.name", container["name"], "an RFC 1123 label is needed")
    if not container.get("image"):
        yield required(f"{path}.image")
    yield from _ports(path, container.get("ports") or ())
    mounted: list[str] = []
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{path}.volumeMounts[{index}]"
        if mount["name"] not in volumes:
            yield absent(f"{where}.name", mount["name"])
        if mount["mountPath"] in mounted:
            yield invalid_value(f"{where}.mountPath", mount["mountPath"], "must be unique")
        mounted.append(mount["mountPath"])
    for index, variable in enumerate(container.get("env") or ()):
        if variable.get("value") and variable.get("valueFrom"):
            why = "may not be specified when `value` is not empty"
            yield invalid_value(f"{path}.env[{index}].valueFrom", "", why)
    yield from _resources(f"{path}.resources", container.get("resources") or {})
    lifecycle = container.get("lifecycle") or {}
    handlers = {f"lifecycle.{name}": lifecycle.get(name) for name in ("preStop", "postStart")}
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        handlers[name] = container.get(name)
    for name, handler in handlers.items():
        if handler is not None and sum(each in handler for each in _HANDLERS) != 1:
            yield required(f"{path}.{name}", "must specify a handler type, and one only")
        if name == "livenessProbe" and handler and handler.get("successThreshold", 1) != 1:
            yield invalid_value(f"{path}.{name}.successThreshold", "", "must be 1")


def _ports(path: str, ports: tuple[Object, ...]) -> Iterator[Cause]:
    names: list[str | None] = []
    for index, port in enumerate(ports):
        where = f"{path}.ports[{index}]"
        if not 0 < port["containerPort"] < 65536:
            why = "must be between 1 and 65535, inclusive"
            yield invalid_value(f"{where}.containerPort", port["containerPort"], why)
        name = port.get("name")
        if name and not _PORT_NAME.fullmatch(name):
            yield invalid_value(f"{where}.name", name, "must be an IANA service name, at most 15")
        if name and name in names:
            yield duplicate(f"{where}.name", name)
        names.append(name)


def _resources(path: str, resources: Object) -> Iterator[Cause]:
    amounts: dict[str, dict[str, Decimal]] = {"limits": {}, "requests": {}}
    for part, read in amounts.items():
        for name, value in (resources.get(part) or {}).items():
            try:
                read[name] = quantity(value)
            except ValueError:
                why = "quantities must match the regular expression of a quantity"
                yield invalid_value(f"{path}.{part}[{name}]", value, why)
    limits, requests = amounts["limits"], amounts["requests"]
    for name, wanted in requests.items():
        if name in limits and wanted > limits[name]:
            why = f"must be less than or equal to {name} limit"
            yield invalid_value(f"{path}.requests", str(wanted), why)
    for name in {*limits, *requests}:
        # An extended resource, such as a GPU, is never overcommitted.
        if "/" in name and "kubernetes.io/" not in name:
            if name not in limits:
                yield required(
                    f"{path}.limits", "Limit must be set for non overcommitable resources"
                )
            elif requests.get(name, limits[name]) != limits[name]:
                yield invalid_value(f"{path}.requests", name, f"must be equal to {name} limit")

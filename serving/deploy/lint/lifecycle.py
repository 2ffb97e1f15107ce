"""Rules of a pod's life: its commands exist, its probes fit, and it has time to finish answers."""

import re
from collections.abc import Callable, Iterator, Sequence

from serving.app import deployment_name
from serving.config import AppConfig
from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, report_on
from serving.deploy.lint.pods import CLEANUP, Pod, pods, ray_pods, upgraded_in_steps
from serving.deploy.manifests import Manifests, Object
from serving.engine import deployment as engine
from serving.router import deployment as router

UsageError = Callable[[Sequence[str]], str | None]
"""Returns the error of a `mistral-serve` command with these arguments; None if there is none."""

_COMMAND = "mistral-serve"
_SLOW_START_S = 60
"""How long Ray's process may not answer on a node that is loading a model."""


def problems(manifests: Manifests, config: AppConfig, usage_error: UsageError) -> Iterator[Finding]:
    service = manifests.service
    for pod in pods(manifests):
        yield from _commands(pod, usage_error)
    yield from _old_cluster(service, config)
    yield from _head_last(service)
    for pod in ray_pods(service):
        yield from _stop(pod, config)
        if pod.node_type != CLEANUP:
            yield from _probes(pod, upgraded_in_steps(service))


def _pre_stop(container: Object) -> list[str]:
    handler = container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
    found: list[str] = handler.get("command", [])
    return found


def _commands(pod: Pod, usage_error: UsageError) -> Iterator[Finding]:
    """Checks that `mistral-serve` has the commands and options that containers use."""
    for container in pod.containers:
        for command in (container.get("command", []), _pre_stop(container)):
            words = command[-1].split() if command and command[0] == "sh" else command
            if _COMMAND not in words:
                continue
            arguments = [
                word
                for word in words[words.index(_COMMAND) + 1 :]
                if not word.startswith((">", "2>"))
            ]
            if problem := usage_error(arguments):
                yield report_on(pod.owner, "lifecycle")(
                    "command",
                    f"`{_COMMAND} {' '.join(arguments)}` is refused: {problem.rstrip('.')}",
                    f"`{_COMMAND} --help` lists the commands",
                )


def _answer_s(config: AppConfig) -> float:
    """How long an answer may go on after its replica was told to stop."""
    return max(config.router.drain_timeout_s, *(m.drain_timeout_s for m in config.models))


def _old_cluster(service: Object, config: AppConfig) -> Iterator[Finding]:
    delay_s, answer_s = service["spec"].get("rayClusterDeletionDelaySeconds", 60), _answer_s(config)
    if delay_s <= answer_s:
        yield report_on(named(service), "lifecycle")(
            "deletion-delay",
            f"the old cluster goes after {delay_s} s, and an answer may take {answer_s:g} s",
            f"set rayClusterDeletionDelaySeconds above {answer_s:g}",
        )


def _grace_s(pod: Pod) -> int:
    return int(pod.spec.get("terminationGracePeriodSeconds", 30))


def _head_last(service: Object) -> Iterator[Finding]:
    found = list(ray_pods(service))
    (head,) = (pod for pod in found if pod.node_type == "head")
    longest_s = max((_grace_s(pod) for pod in found if pod.node_type == "worker"), default=0)
    if _grace_s(head) < longest_s:
        yield report_on(head.owner, "lifecycle")(
            "head-grace",
            "the head is gone before the nodes that it drains",
            f"set its terminationGracePeriodSeconds to {longest_s} or more",
        )


def _stop(pod: Pod, config: AppConfig) -> Iterator[Finding]:
    """Checks that preStop ends before the grace period does, and after a replica's last answer."""
    wrong, grace_s = report_on(pod.owner, "lifecycle"), _grace_s(pod)
    command = _pre_stop(pod.spec["containers"][0])
    within = re.search(r"drain-node .*--within-s (\d+)", " ".join(command))
    if within is None:
        yield wrong(
            "drain",
            "is not drained before it stops",
            "give it a preStop of `mistral-serve drain-node --within-s SECONDS`",
        )
        return
    within_s = int(within[1])
    if within_s >= grace_s:
        yield wrong(
            "grace-period",
            f"is killed after {grace_s} s, and its preStop drains for up to {within_s} s",
            f"set terminationGracePeriodSeconds above {within_s}",
        )
    shutdown_s = _shutdown_s(config)
    longest_s = shutdown_s["router"] if pod.component == "router" else max(shutdown_s.values())
    if within_s <= longest_s:
        yield wrong(
            "drain-time",
            f"draining ends after {within_s} s, an answer after {longest_s:g} s",
            f"raise --within-s above {longest_s:g}",
        )


def _shutdown_s(config: AppConfig) -> dict[str, float]:
    """Serve's graceful_shutdown_timeout_s of each deployment."""
    times = {"router": float(router.options(config.router)["graceful_shutdown_timeout_s"])}
    for model in config.models:
        entry = model.entry
        options = engine.options(entry, model.cpus, model.drain_timeout_s)
        times[deployment_name(entry.id)] = float(options["graceful_shutdown_timeout_s"])
    return times


def _probes(pod: Pod, in_steps: bool) -> Iterator[Finding]:
    wrong, container = report_on(pod.owner, "lifecycle"), pod.spec["containers"][0]
    if in_steps and pod.component == "engine":
        # The gateway sends requests to each pod that is ready. KubeRay's probe asks for a router.
        if "readinessProbe" in container:
            yield wrong(
                "engine-ready",
                "would be ready, and the Gateway would send it clients' requests",
                "remove its readinessProbe: KubeRay's own fails where no router is",
            )
    elif "readinessProbe" not in container:
        yield wrong(
            "readiness",
            "has no readinessProbe, and KubeRay's own asks for a router",
            "ask port 52365 for /api/local_raylet_healthz",
        )
    if "livenessProbe" not in container:
        yield wrong(
            "liveness",
            "has no livenessProbe",
            "ask port 52365 for /api/local_raylet_healthz",
        )
        return
    liveness = container["livenessProbe"]
    patience_s = liveness.get("periodSeconds", 10) * liveness.get("failureThreshold", 3)
    if pod.component == "engine" and patience_s < _SLOW_START_S:
        yield wrong(
            "liveness-patience",
            f"a node that loads a model is killed after {patience_s} s",
            f"raise periodSeconds times failureThreshold of its livenessProbe to {_SLOW_START_S}",
        )
    if "8000" in str(liveness) or "serve" in str(liveness.get("httpGet", {}).get("port")):
        yield wrong(
            "liveness-replica",
            "its node is killed when its replica is away",
            "ask Ray's process instead: port 52365, /api/local_raylet_healthz",
        )

"""Rules of a pod's life: its commands exist, its probes fit, and it has time to finish answers."""

import re
from collections.abc import Callable, Iterator, Sequence

from serving.app import deployment_name
from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import CLEANUP, Pod, pods, ray_pods, upgraded_in_steps
from serving.deploy.lint.rules import Report, report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.engine import deployment as engine
from serving.router import deployment as router

UsageError = Callable[[Sequence[str]], str | None]
"""Returns the error of a `mistral-serve` command with these arguments; None if there is none."""

_COMMAND = "mistral-serve"
_SLOW_START_S = 60
"""How long Ray's process may not answer on a node that is loading a model."""


def problems(manifests: Manifests, config: AppConfig, usage_error: UsageError) -> Iterator[Finding]:
    service = manifests.service
    delay_s = service["spec"].get("rayClusterDeletionDelaySeconds", 60)
    answer_s = max(config.router.drain_timeout_s, *(m.drain_timeout_s for m in config.models))
    if delay_s <= answer_s:
        message = f"the old cluster goes after {delay_s} s, an answer may take {answer_s:g} s"
        yield report_on(named(service), "lifecycle")("deletion-delay", message)
    head, *others = ray_pods(service)
    longest_s = max((_grace_s(pod) for pod in others if pod.node_type == "worker"), default=0)
    if _grace_s(head) < longest_s:
        message = f"the head is gone before the nodes that it drains, after {longest_s} s"
        yield report_on(head.owner, "lifecycle")("head-grace", message)
    for pod in pods(manifests):
        yield from _commands(pod, usage_error)
    for pod in ray_pods(service):
        wrong = report_on(pod.owner, "lifecycle")
        yield from _stop(pod, config, wrong)
        if pod.node_type != CLEANUP:
            yield from _readiness(pod, upgraded_in_steps(service), wrong)
            yield from _liveness(pod, wrong)


def _pre_stop(container: Object) -> list[str]:
    handler = container.get("lifecycle", {}).get("preStop", {})
    return list(handler.get("exec", {}).get("command", ()))


def _commands(pod: Pod, usage_error: UsageError) -> Iterator[Finding]:
    """Checks that `mistral-serve` has the commands and options that containers use."""
    for container in pod.containers:
        for command in (container.get("command", []), _pre_stop(container)):
            words = command[-1].split() if command and command[0] == "sh" else command
            if _COMMAND not in words:
                continue
            after = words[words.index(_COMMAND) + 1 :]
            arguments = [word for word in after if not word.startswith((">", "2>"))]
            if problem := usage_error(arguments):
                what = f"`{_COMMAND} {' '.join(arguments)}` is refused: {problem.rstrip('.')}"
                yield report_on(pod.owner, "lifecycle")("command", what)


def _grace_s(pod: Pod) -> int:
    return int(pod.spec.get("terminationGracePeriodSeconds", 30))


def _stop(pod: Pod, config: AppConfig, wrong: Report) -> Iterator[Finding]:
    """Checks that preStop ends before the grace period does, and after a replica's last answer."""
    command, grace_s = _pre_stop(pod.spec["containers"][0]), _grace_s(pod)
    within = re.search(r"drain-node .*--within-s (\d+)", " ".join(command))
    if within is None:
        yield wrong("drain", "is not drained before it stops")
        return
    within_s = int(within[1])
    if within_s >= grace_s:
        yield wrong(
            "grace-period", f"killed after {grace_s} s, its preStop drains for {within_s} s"
        )
    shutdown_s = _shutdown_s(config)
    longest_s = shutdown_s["router"] if pod.component == "router" else max(shutdown_s.values())
    if within_s <= longest_s:
        message = f"draining ends after {within_s} s, an answer after {longest_s:g} s"
        yield wrong("drain-time", message)


def _shutdown_s(config: AppConfig) -> dict[str, float]:
    """Serve's graceful_shutdown_timeout_s of each deployment."""
    deployments = {"router": router.options(config.router)}
    for model in config.models:
        options = engine.options(model.entry, model.cpus, model.drain_timeout_s)
        deployments[deployment_name(model.entry.id)] = options
    key = "graceful_shutdown_timeout_s"
    return {name: float(options[key]) for name, options in deployments.items()}


def _readiness(pod: Pod, in_steps: bool, wrong: Report) -> Iterator[Finding]:
    has_probe = "readinessProbe" in pod.spec["containers"][0]
    if in_steps and pod.component == "engine":
        # The gateway sends requests to each pod that is ready. KubeRay's probe asks for a router.
        if has_probe:
            yield wrong("engine-ready", "the Gateway would send it clients' requests")
    elif not has_probe:
        yield wrong("readiness", "has no readinessProbe, and KubeRay's own asks for a router")


def _liveness(pod: Pod, wrong: Report) -> Iterator[Finding]:
    probe = pod.spec["containers"][0].get("livenessProbe")
    if probe is None:
        yield wrong("liveness", "has no livenessProbe")
        return
    patience_s = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    if pod.component == "engine" and patience_s < _SLOW_START_S:
        message = f"while it loads a model is killed after {patience_s} s, not {_SLOW_START_S}"
        yield wrong("liveness-patience", message)
    if "8000" in str(probe) or "serve" in str(probe.get("httpGet", {}).get("port")):
        yield wrong("liveness-replica", "its node is killed when its replica is away")

"""Logs of the service's pods: those of containers, and the files that Ray writes in them."""

import math
import re
import time
from collections.abc import Iterator

from serving.deploy.api_server import first_line
from serving.deploy.errors import Denied, DeployError, ServerTrouble, Unreachable
from serving.deploy.kube import Kube
from serving.deploy.objects import Object, labels_of
from serving.deploy.waiting import statuses

COMPONENT = "app.kubernetes.io/component"
RAY_LOGS = "/tmp/ray/session_latest/logs"
"""Ray's folder. `serve/` in it has the logs of routers, engines and Serve's controller, which go
nowhere else; `worker-*` what their processes print, such as vLLM's own log."""
_OF_WORKER = re.compile(r":(job_id|actor_name|task_name):")
"""Lines with which Ray marks the owner of what follows in `worker-*`."""
_MESSAGE = re.compile(r'"message":\s*"((?:[^"\\]|\\+.)*)"')
_CHANNEL_S = 1.0
TRY_AGAIN_S = 1.0
_TRIES = 60


def of_component(pods: list[Object], component: str | None) -> list[Object]:
    """The pods of a component; None stands for engines, which may share the routers' pods. Raises
    DeployError if there are none.
    """
    by_component: dict[str, list[Object]] = {}
    for pod in pods:
        by_component.setdefault(labels_of(pod).get(COMPONENT, ""), []).append(pod)
    if component is None:
        component = "engine" if "engine" in by_component else "router"
    if component not in by_component:
        there = ", ".join(sorted(filter(None, by_component))) or "none"
        raise DeployError(f"there are no pods of {component}; components with pods: {there}")
    return by_component[component]


def is_of_ray(pod: Object) -> bool:
    return "ray.io/node-type" in labels_of(pod)


def state(pod: Object, container: str) -> str:
    """Whether a container is "running", has "ended" before, or, with "", has no log yet."""
    for each in statuses(pod):
        if each["name"] == container:
            if "running" in each["state"]:
                return "running"
            return "ended" if "terminated" in each["state"] or each.get("restartCount") else ""
    return ""


def tail_command(lines: int, follow: bool) -> list[str]:
    """A command that prints Ray's files in a pod; each line names its deployment or process."""
    what = f"{RAY_LOGS}/serve/*.log {RAY_LOGS}/worker-*.out {RAY_LOGS}/worker-*.err"
    return ["sh", "-c", f"tail -q -n {lines} {'-F ' if follow else ''}{what} 2>/dev/null"]


def files(kube: Kube, pod: Object, lines: int, follow: bool) -> Iterator[str]:
    """The lines of Ray's files in a pod of Ray. Raises DeployError."""
    return (line for line in _files(kube, pod, lines, follow) if not _OF_WORKER.match(line))


def _files(kube: Kube, pod: Object, lines: int, follow: bool) -> Iterator[str]:
    from kubernetes.stream import stream

    metadata = pod["metadata"]
    try:
        channel = stream(
            kube.server.own_api().connect_get_namespaced_pod_exec,
            metadata["name"],
            metadata["namespace"],
            container=pod["spec"]["containers"][0]["name"],
            command=tail_command(lines, follow),
            stdout=True,
            stderr=False,
            stdin=False,
            tty=False,
            _preload_content=False,
        )
        rest = ""
        while channel.is_open():
            channel.update(timeout=_CHANNEL_S)
            *done, rest = (rest + channel.read_stdout(timeout=0)).split("\n")
            yield from done
        if rest:
            yield rest
    except Exception as error:  # of websocket-client and kubernetes, of no common kind
        text = str(getattr(error, "reason", "") or error)
        kind = Denied if "403" in first_line(text) else DeployError
        found = _MESSAGE.search(text)
        why = re.sub(r'\\+"', '"', found[1]) if found else first_line(text)
        raise kind(
            f"cannot read Ray's logs in {metadata['name']}: {why}\n"
            f"Check that the pod is up and that you may `kubectl -n {metadata['namespace']} exec` "
            "in it; --container shows the container's own log."
        ) from None


def container_lines(
    kube: Kube, pod: Object, container: str, lines: int, follow: bool, previous: bool
) -> Iterator[str]:
    """The lines of a container's log; with `follow`, past lost connections. Raises DeployError."""
    tail: int | None = lines
    since_s: int | None = None
    failures, last_s = 0, time.monotonic()
    while True:
        try:
            for line in kube.log(
                pod, container, tail, since_s=since_s, previous=previous, follow=follow
            ):
                last_s, failures = time.monotonic(), 0
                yield line
            return
        except (Unreachable, ServerTrouble):
            failures += 1
            if not follow or failures > _TRIES:
                raise
            time.sleep(TRY_AGAIN_S)
            # A line twice is better than one that is lost.
            tail, since_s = None, math.ceil(time.monotonic() - last_s)

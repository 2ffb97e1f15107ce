"""`mistral-serve deploy logs`: logs of the service's pods."""

import queue
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from serving.cli.client import BAD_OPTION, fail
from serving.cli.deploy_cluster import (
    DEFAULT_NAMESPACE,
    Context,
    Namespace,
    cluster,
    say_kubectl,
)
from serving.deploy.errors import DeployError
from serving.deploy.pod_logs import (
    container_lines,
    files,
    is_of_ray,
    of_component,
    state,
    tail_command,
)
from serving.deploy.waiting import waiting


def logs(
    component: Annotated[
        str | None,
        typer.Argument(help="engine, router, head, redis or weights. Default: where engines run."),
    ] = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines as they arrive.")
    ] = False,
    tail: Annotated[int, typer.Option(min=0, help="Number of last lines of each pod.")] = 100,
    container: Annotated[
        str | None,
        typer.Option(help="Show this container's own log in place of Ray's files."),
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="Show the container before its last restart.")
    ] = False,
) -> None:
    """Show the logs of a component's pods, each line with its pod.

    Engines, routers and Serve's controller on the head write to Ray's files in their pods, not to
    the container's log. By hand: kubectl -n mistral-serve exec POD -- sh -c 'cd
    /tmp/ray/session_latest/logs; tail -n 100 serve/*.log worker-*'; kubectl -n mistral-serve logs
    POD -c CONTAINER
    """
    if previous and container is None and component in (None, "engine", "router", "head"):
        raise fail("--previous needs a container: name it with --container", BAD_OPTION)
    kube = cluster(context)
    pods = of_component(kube.find("v1", "Pod", namespace), component)
    sources: list[tuple[str, Iterator[str]]] = []
    for pod in pods:
        name = pod["metadata"]["name"]
        chosen = container or pod["spec"]["containers"][0]["name"]
        logged = state(pod, chosen)
        if not logged:
            waits = waiting(pod, kube.find("v1", "Event", namespace))
            why = f"{waits.why}\n  -> {waits.fix}" if waits else f"there is no {chosen} in it"
            typer.secho(f"{name}  has no log yet: {why}", err=True, fg="yellow")
            continue
        if container is None and is_of_ray(pod) and logged == "running":
            command = " ".join(tail_command(tail, follow)[2:])
            say_kubectl(f"kubectl -n {namespace} exec {name} -- sh -c '{command}'",
                        context=context)  # fmt: skip
            lines = files(kube, pod, tail, follow)
        else:
            say_kubectl(f"kubectl -n {namespace} logs {name} -c {chosen} --tail={tail}",
                        context=context)  # fmt: skip
            lines = container_lines(kube, pod, chosen, tail, follow, previous)
        sources.append((name, lines))
    if not sources:
        raise DeployError("none of these pods has a log yet")
    if follow:
        show_together(sources)
    else:
        show_in_turn(sources)


def show_in_turn(sources: list[tuple[str, Iterator[str]]]) -> None:
    """Shows one pod after the other. Raises the first one's DeployError at the end."""
    errors = []
    for name, lines in sources:
        try:
            for line in lines:
                typer.echo(f"{name}  {line}")
        except DeployError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def show_together(sources: list[tuple[str, Iterator[str]]]) -> None:
    """Shows the lines of all pods as they arrive, until the last ends. Raises DeployError."""
    came: queue.Queue[str | DeployError | None] = queue.Queue()

    def read(name: str, lines: Iterator[str]) -> None:
        try:
            for line in lines:
                came.put(f"{name}  {line}")
        except DeployError as error:
            came.put(error)
        finally:
            came.put(None)

    for name, lines in sources:
        threading.Thread(target=read, args=(name, lines), daemon=True).start()
    left, error = len(sources), None
    while left:
        item = came.get()
        if item is None:
            left -= 1
        elif isinstance(item, DeployError):
            error = item
        else:
            typer.echo(item)
    if error is not None:
        raise error

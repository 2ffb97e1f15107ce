"""`mistral-serve deploy drain`: moves the service's pods off a node."""

from typing import Annotated

import typer

from serving.cli.deploy_cluster import (
    DEFAULT_NAMESPACE,
    Context,
    Namespace,
    Timeout,
    cluster,
    say_kubectl,
)
from serving.cli.up import Progress
from serving.deploy.drain import cordon
from serving.deploy.drain import drain as empty


def drain(
    node: Annotated[str, typer.Argument(help="Name of the node, as `kubectl get nodes` shows it.")],
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = None,
    timeout_min: Timeout = 60,
) -> None:
    """Move the service's pods off a node, each after its running answers have ended.

    By hand: kubectl drain NODE --ignore-daemonsets --delete-emptydir-data
    --pod-selector=app.kubernetes.io/part-of=mistral-serve; and afterwards kubectl uncordon NODE
    """
    say = Progress()
    say_kubectl(
        f"kubectl drain {node} --ignore-daemonsets --delete-emptydir-data "
        "--pod-selector=app.kubernetes.io/part-of=mistral-serve",
        context=context,
    )
    kube = cluster(context)
    cordon(kube, node)
    say(f"{node} takes no new pods")
    empty(kube, namespace, node, timeout_min * 60, say)
    say(f"{node} is drained; to let it take pods again: kubectl uncordon {node}")

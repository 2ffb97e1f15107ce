"""`mistral-serve deploy delete`: takes the service off a cluster."""

from typing import Annotated

import typer

from serving.cli.deploy_cluster import (
    DEFAULT_SOURCE,
    Context,
    Source,
    Timeout,
    cluster,
    say_kubectl,
)
from serving.cli.up import Progress
from serving.deploy import manifests
from serving.deploy.delete import delete as delete_all


def delete(
    source: Source = DEFAULT_SOURCE,
    context: Context = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout_min: Timeout = 30,
) -> None:
    """Delete all of MANIFESTS, the RayService first, and wait until it is gone; with the namespace
    go its secrets and the weights.

    By hand: kubectl -n mistral-serve delete rayservice mistral; kubectl delete --ignore-not-found
    -f k8s
    """
    wanted = manifests.read(source)
    name, namespace = wanted.service["metadata"]["name"], wanted.namespace
    kube = cluster(context)
    if not yes:
        what = "and all else in the namespace" if wanted.of_kind("Namespace") else "of"
        typer.confirm(f"Delete {wanted.source} {what} {namespace} at {kube.server.host}?",
                      abort=True)  # fmt: skip
    say_kubectl(
        f"kubectl -n {namespace} delete rayservice {name}",
        f"kubectl delete --ignore-not-found {wanted.source}",
        context=context,
    )
    delete_all(kube, wanted, timeout_min * 60, Progress())

"""`mistral-serve deploy status`: the state of the service in a namespace."""

import typer

from serving.cli.deploy_cluster import (
    DEFAULT_NAMESPACE,
    Context,
    Namespace,
    cluster,
    say_kubectl,
)
from serving.deploy.errors import DeployError
from serving.deploy.snapshot import take
from serving.deploy.stages import stages

_WIDTH = 8


def status(namespace: Namespace = DEFAULT_NAMESPACE, context: Context = None) -> None:
    """Show what runs, what waits and why; exits 1 if not all of it is up.

    By hand: kubectl -n mistral-serve get rayservice,raycluster,pods,jobs,pvc; kubectl -n
    mistral-serve describe rayservice; kubectl -n mistral-serve get events
    """
    say_kubectl(
        f"kubectl -n {namespace} get rayservice,raycluster,pods,jobs,pvc,events",
        context=context,
    )
    snapshot = take(cluster(context), namespace)
    if snapshot.service is None:
        raise DeployError(
            f"there is no RayService in {namespace}: name another with --namespace, or start "
            "one with `mistral-serve deploy apply k8s --wait`"
        )
    found = stages(snapshot)
    for stage in found:
        head, *rest = stage.lines()
        colour = "green" if stage.done else "red" if stage.failed else "yellow"
        word = "up" if stage.done else "failed" if stage.failed else "waits"
        typer.echo(f"{typer.style(word.ljust(_WIDTH), fg=colour)}{head}")
        for line in rest:
            typer.echo(" " * _WIDTH + line)
    if not all(stage.done or stage.spare for stage in found):
        raise typer.Exit(1)

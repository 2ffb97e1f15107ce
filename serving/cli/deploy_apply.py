"""`mistral-serve deploy apply`: applies the manifests."""

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
from serving.deploy import manifests, rollout
from serving.deploy.apply import apply_all, line, placed, refusals
from serving.deploy.errors import DeployError
from serving.deploy.failed_application import try_again
from serving.deploy.follow import follow


def apply(
    source: Source = DEFAULT_SOURCE,
    context: Context = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the service answers.")] = False,
    timeout_min: Timeout = 60,
) -> None:
    """Apply MANIFESTS; with --wait, show what comes up and what pods wait for.

    By hand: kubectl apply --server-side --force-conflicts -f k8s; kubectl -n mistral-serve wait
    --for=condition=Ready rayservice --all --timeout=60m. Exits 1 if the service does not come up.
    """
    wanted = manifests.read(source)
    namespace = wanted.namespace
    kube = cluster(context)
    say_kubectl(f"kubectl apply --server-side --force-conflicts {wanted.source}", context=context)
    service = placed(kube, wanted.service)
    before = kube.live(service)
    results = []
    for result in apply_all(kube, wanted.objects):
        results.append(result)
        if result.what != "unchanged":
            typer.echo(line(result))
    same = sum(result.what == "unchanged" for result in results)
    typer.echo(f"{len(results)} objects, {same} unchanged")
    if errors := refusals(results):
        raise merged(errors)
    if said := try_again(kube, before, kube.live(service)):
        typer.echo(said)
    if wait:
        say_kubectl(
            f"kubectl -n {namespace} wait --for=condition=Ready rayservice --all "
            f"--timeout={timeout_min}m",
            context=context,
        )
        say = Progress()
        # What is up already looks so until Serve begins with a change.
        settle_s = rollout.SETTLE_S if before else 0
        follow(kube, namespace, timeout_min * 60, say, settle_s=settle_s)
        say("ready")


def merged(errors: list[DeployError]) -> DeployError:
    """One error with all messages, of the first one's type."""
    first = errors[0]
    return type(first)("\n".join(dict.fromkeys(str(error) for error in errors)))

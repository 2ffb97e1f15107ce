"""`mistral-serve deploy diff`: what the manifests would change."""

import typer

from serving.cli.deploy_cluster import (
    DEFAULT_SOURCE,
    Context,
    Source,
    cluster,
    reported_errors,
    say_kubectl,
)
from serving.deploy import manifests
from serving.deploy.difference import differences
from serving.deploy.effect import Effect, gpus_meanwhile

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def diff(source: Source = DEFAULT_SOURCE, context: Context = None) -> None:
    """Show what MANIFESTS would change, and how KubeRay would act on it; exits 1 on a change.

    By hand: kubectl diff --server-side --force-conflicts -f k8s
    """
    with reported_errors():
        wanted = manifests.read(source)
        say_kubectl(
            f"kubectl diff --server-side --force-conflicts {wanted.source}", context=context
        )
        found = list(differences(cluster(context), iter(wanted.objects)))
        for each in found:
            for line in each.lines:
                typer.secho(line, fg=_COLOURS.get(line[:1]))
        for each in found:
            for effect in each.effects:
                typer.echo(f"\n{each.name}: {effect}")
            if Effect.new_cluster in each.effects:
                typer.echo(f"  {gpus_meanwhile(wanted.service)} more GPUs while both are up")
    if found:
        raise typer.Exit(1)

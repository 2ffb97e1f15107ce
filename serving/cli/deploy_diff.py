"""`mistral-serve deploy diff`: what the manifests would change."""

import typer

from serving.cli.deploy_cluster import (
    DEFAULT_SOURCE,
    Context,
    Source,
    cluster,
    say_kubectl,
)
from serving.deploy import manifests
from serving.deploy.changes import changes
from serving.deploy.effect import described

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def diff(source: Source = DEFAULT_SOURCE, context: Context = None) -> None:
    """Show what MANIFESTS would change, and how KubeRay would act on it; exits 1 on a change.

    By hand: kubectl diff --server-side --force-conflicts -f k8s
    """
    wanted = manifests.read(source)
    say_kubectl(f"kubectl diff --server-side --force-conflicts {wanted.source}", context=context)
    found = list(changes(cluster(context), wanted.objects))
    for change in found:
        for line in change.diff():
            typer.secho(line, fg=_COLOURS.get(line[:1]))
    for change in found:
        for effect in change.effects:
            typer.echo(f"\n{change.name}: {described(effect, wanted.service)}")
    if found:
        raise typer.Exit(1)

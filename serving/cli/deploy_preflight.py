"""`mistral-serve deploy preflight`: what a cluster lacks for the service."""

import textwrap

import typer

from serving.cli.deploy_cluster import (
    DEFAULT_SOURCE,
    Context,
    Source,
    cluster,
)
from serving.deploy import manifests
from serving.deploy.finding import Finding, State
from serving.deploy.preflight import preflight as check
from serving.deploy.survey import survey

_COLOURS = {State.ok: "green", State.missing: "red"}
_INDENT = 10


def preflight(source: Source = DEFAULT_SOURCE, context: Context = None) -> None:
    """Show what a cluster lacks for MANIFESTS, and how to fix it; exits 1 if something is missing.

    Changes nothing. By hand: kubectl version; kubectl get crd,nodes,storageclass; kubectl get
    deployments -A; kubectl auth can-i --list; kubectl get secrets,quota -n mistral-serve; kubectl
    apply --dry-run=server -f k8s
    """
    wanted = manifests.read(source)
    findings = list(check(wanted, survey(cluster(context), wanted)))
    for finding in findings:
        show(finding)
    lacks = sum(finding.state is State.missing for finding in findings)
    typer.echo(f"\n{lacks or 'nothing'} missing")
    if lacks:
        raise typer.Exit(1)


def show(finding: Finding) -> None:
    state = typer.style(finding.state.ljust(_INDENT), fg=_COLOURS.get(finding.state, "yellow"))
    typer.echo(f"{state}{finding.subject}: {finding.message}")
    for line in finding.fix:
        typer.echo(textwrap.indent(line, " " * _INDENT + "-> "))

"""`mistral-serve status`: models, their replicas, and what runs on them."""

import typer

from serving.cli.client import DEFAULT_URL, AdminKeyEnv, Url
from serving.cli.service_status import asking, service_status
from serving.router.telemetry.status import ModelStatus


def status(url: Url = DEFAULT_URL, admin_key_env: AdminKeyEnv = None) -> None:
    """Show the models of a running service and their replicas; exits 1 if one has none."""
    with asking(url, admin_key_env) as client:
        service = service_status(client)
    versions = ", ".join(f"{name} {number}" for name, number in service.versions.items())
    typer.echo(f"{url}  {versions}")
    for model_id, model in service.models.items():
        for line in model_lines(model_id, model):
            typer.echo(line)
    if not all(model.replicas for model in service.models.values()):
        raise typer.Exit(1)


def model_lines(model_id: str, model: ModelStatus) -> list[str]:
    replica_lines = [
        f"  {replica.replica}  {replica.address}  {replica.requests_in_flight} requests and "
        f"{replica.tokens_in_flight} tokens in flight"
        for replica in model.replicas
    ]
    why = f": {model.start_error}" if model.start_error else ""
    return [model_id, *(replica_lines or [f"  no replica is up{why}"])]

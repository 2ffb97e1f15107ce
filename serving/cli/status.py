"""`mistral-serve status`: models, their replicas, and what runs on them."""

import httpx
import typer

from serving.cli.client import DEFAULT_URL, Url, unreachable


def status(url: Url = DEFAULT_URL) -> None:
    """Show the models of a running service and their replicas; exits 1 if one has none."""
    try:
        with httpx.Client(base_url=url, timeout=5) as client:
            replicas = client.get("/-/replicas").raise_for_status().json()
            models = client.get("/v1/models").raise_for_status().json()["data"]
            versions = client.get("/version").raise_for_status().json()
    except httpx.HTTPError:
        raise unreachable(url) from None
    typer.echo(f"{url}  {', '.join(f'{name} {number}' for name, number in versions.items())}")
    for model in models:
        typer.echo(model["id"])
        for replica in replicas[model["id"]]:
            typer.echo(
                f"  {replica['replica']}  {replica['address']}  "
                f"{replica['requests_in_flight']} requests and "
                f"{replica['tokens_in_flight']} tokens in flight"
            )
        if not replicas[model["id"]]:
            typer.echo("  no replica is up")
    if not all(replicas.values()):
        raise typer.Exit(1)

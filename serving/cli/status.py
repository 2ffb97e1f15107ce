"""`mistral-serve status`: models, their replicas, and what runs on them."""

import httpx
import typer
from rich.console import Console
from rich.table import Table

from serving.cli.client import DEFAULT_URL, Url, unreachable


def status(url: Url = DEFAULT_URL) -> None:
    """Show the models of a running service and their replicas."""
    try:
        with httpx.Client(base_url=url, timeout=5) as client:
            replicas = client.get("/-/replicas").raise_for_status().json()
            models = client.get("/v1/models").raise_for_status().json()["data"]
            version = client.get("/version").raise_for_status().json()
    except httpx.HTTPError:
        raise unreachable(url) from None
    console = Console()
    console.print(f"{url}  ({', '.join(f'{k} {v}' for k, v in version.items())})")
    table = Table("model", "replica", "address", "requests", "tokens in flight")
    for model in models:
        for replica in replicas[model["id"]] or [{"replica": "none up"}]:
            table.add_row(
                model["id"],
                replica["replica"],
                replica.get("address", ""),
                str(replica.get("requests_in_flight", "")),
                str(replica.get("tokens_in_flight", "")),
            )
    console.print(table)
    if not all(replicas.values()):
        raise typer.Exit(1)

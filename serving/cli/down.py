"""`mistral-serve down`: stops a service that `mistral-serve up` started here."""

from typing import Annotated

import psutil
import typer

from serving.cli import pidfile


def down(
    port: Annotated[int, typer.Option(help="The router's port.")] = 8000,
    timeout_s: Annotated[float, typer.Option(help="How long running answers may take.")] = 600,
) -> None:
    """Stop the local service; what is being answered is finished first."""
    process = pidfile.find(port)
    if process is None:
        print(f"No `mistral-serve up` is running for port {port}.")
        raise typer.Exit(1)
    process.terminate()
    try:
        process.wait(timeout_s)
    except psutil.TimeoutExpired:
        print(f"It still runs after {timeout_s:.0f} s (process {process.pid}).")
        raise typer.Exit(1) from None
    print("Stopped.")

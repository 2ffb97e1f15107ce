"""`mistral-serve down`: stops a service that `mistral-serve up` started here."""

import time
from typing import Annotated

import psutil
import typer

from serving.cli import pidfile


def down(
    port: Annotated[int, typer.Option(help="The router's port.")] = 8000,
    timeout_s: Annotated[float, typer.Option(help="How long to wait for running answers.")] = 600,
) -> None:
    """Stop the local service after it has finished its answers."""
    process = pidfile.find(port)
    if process is None:
        print(f"No `mistral-serve up` is running for port {port}.")
        raise typer.Exit(1)
    process.terminate()
    deadline_s = time.monotonic() + timeout_s
    while runs(process):
        if time.monotonic() > deadline_s:
            print(f"It still runs after {timeout_s:.0f} s (process {process.pid}).")
            raise typer.Exit(1)
        time.sleep(0.1)
    print("Stopped.")


def runs(process: psutil.Process) -> bool:
    try:
        # A zombie has ended and waits for its parent.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

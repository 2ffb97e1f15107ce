"""What the `deploy` commands share: their options, the cluster, and how failures are told."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from serving.cli.client import fail
from serving.deploy.api_server import connect
from serving.deploy.errors import DeployError
from serving.deploy.kube import Kube

INTERRUPTED = 130
SECRETS_SCRIPT = "deploy/secrets.sh"
"""Makes all that the manifests name."""

Source = Annotated[
    Path,
    typer.Argument(metavar="MANIFESTS", help="Folder, file or overlay; - for standard input."),
]
Context = Annotated[str | None, typer.Option(help="Of the kubeconfig. Default: its current one.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Where the service runs.")]

Timeout = Annotated[
    int, typer.Option("--timeout", min=0, metavar="MINUTES", help="The longest wait.")
]

DEFAULT_SOURCE = Path("k8s")
DEFAULT_NAMESPACE = "mistral-serve"


def cluster(context: str | None) -> Kube:
    return Kube(connect(context))


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Failures as a line and an exit code."""
    try:
        yield
    except DeployError as error:
        raise fail(str(error), error.exit_code) from None
    except KeyboardInterrupt:
        raise fail(
            "interrupted; what was begun in the cluster goes on there", INTERRUPTED
        ) from None


def say_kubectl(*commands: str, context: str | None = None) -> None:
    """What does the same by hand, on stderr."""
    with_context = f"kubectl --context={context} " if context else "kubectl "
    for command in commands:
        typer.secho(f"as: {command.replace('kubectl ', with_context)}", err=True, dim=True)

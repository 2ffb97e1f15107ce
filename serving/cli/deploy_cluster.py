"""Shared by the `deploy` commands: options, the connection to a cluster, error reports."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from serving.cli.client import fail
from serving.deploy.api_server import connect
from serving.deploy.errors import DeployError
from serving.deploy.kube import Kube

_INTERRUPTED = 130

Source = Annotated[
    Path,
    typer.Argument(metavar="MANIFESTS", help="Folder, file or overlay; - for standard input."),
]
Context = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig. Default: the current one.")
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the service.")]

Timeout = Annotated[
    int, typer.Option("--timeout", min=0, metavar="MINUTES", help="Longest time to wait.")
]

DEFAULT_SOURCE = Path("k8s")
DEFAULT_NAMESPACE = "mistral-serve"


def cluster(context: str | None) -> Kube:
    return Kube(connect(context))


class Reporting(TyperGroup):
    """Reports a command's DeployError as a line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DeployError as error:
            raise fail(str(error), error.exit_code) from None
        except KeyboardInterrupt:
            raise fail(
                "interrupted; changes already made in the cluster stay", _INTERRUPTED
            ) from None


def say_kubectl(*commands: str, context: str | None = None) -> None:
    """Shows on stderr the commands that do the same by hand."""
    with_context = f"kubectl --context={context} " if context else "kubectl "
    for command in commands:
        typer.secho(f"same as: {command.replace('kubectl ', with_context)}", err=True, dim=True)

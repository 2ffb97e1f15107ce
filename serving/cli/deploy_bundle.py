"""`mistral-serve deploy support-bundle`: objects and logs for support, in one file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from serving.cli.deploy_cluster import (
    DEFAULT_NAMESPACE,
    Context,
    Namespace,
    cluster,
    say_kubectl,
)
from serving.deploy.bundle import entries, write
from serving.deploy.errors import BadInput


def support_bundle(
    out: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Default: a new .tar.gz here.")
    ] = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = None,
    log_lines: Annotated[
        int, typer.Option(min=1, help="Last lines of each container's log.")
    ] = 2000,
) -> None:
    """Collect objects, events and logs in a .tar.gz, without secrets and prompts.

    Secrets are not read. Variables, fields and values that look like one are blanked, and so are
    prompts and answers; still, look through the archive before you pass it on. By hand, unblanked:
    kubectl -n mistral-serve get rayservice,raycluster,pods,events,jobs,pvc -o yaml; kubectl -n
    mistral-serve logs POD --all-containers; kubectl describe nodes
    """
    made = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = out or Path(f"{namespace}-support-{made}.tar.gz")
    say_kubectl(
        f"kubectl -n {namespace} get rayservice,raycluster,pods,events,jobs,pvc -o yaml",
        f"kubectl -n {namespace} logs POD --all-containers",
        context=context,
    )
    kube = cluster(context)
    try:
        count = write(path, entries(kube, namespace, log_lines))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    typer.echo(f"{path}: {count} files, {path.stat().st_size / 1024:.0f} KiB")

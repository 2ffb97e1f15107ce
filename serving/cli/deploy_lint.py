"""`mistral-serve deploy lint`: checks manifests without a cluster."""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.exceptions import TyperException

from serving.cli import preflight
from serving.cli.deploy_cluster import DEFAULT_SOURCE, Source
from serving.config import AppConfig
from serving.deploy import manifests


def lint(context: typer.Context, source: Source = DEFAULT_SOURCE) -> None:
    """Show what is wrong with MANIFESTS, and how to fix it; exits 1 if anything is.

    Needs no cluster. Checks KubeRay's own rules, references between manifests, network policies,
    security, room for the Serve config and for an upgrade, and time for answers to end. vLLM reads
    the flags in vllm_args, if there are any and it is installed.
    """
    from serving.deploy.lint.linter import lint as check  # Ray Serve's schemas take a second

    main = context.find_root().command.main
    wanted = manifests.read(source)
    findings = check(wanted, lambda arguments: usage_error(main, arguments), vllm_error)
    for finding in findings:
        what = f"{finding.subject}: {finding.message}"
        typer.echo(f"{what}; {finding.fix[0]} [{finding.rule}]")
    if findings:
        typer.echo(f"{len(findings)} findings in {len(wanted.objects)} objects", err=True)
        raise typer.Exit(1)
    typer.echo(f"{len(wanted.objects)} objects, nothing wrong")


def usage_error(main: Callable[..., Any], arguments: Sequence[str]) -> str | None:
    """What `mistral-serve` refuses in these arguments: with --help it only reads them."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main([*arguments, "--help"], standalone_mode=False)
        except TyperException as error:
            return error.format_message()
    return None


def vllm_error(config: AppConfig) -> str | None:
    """Returns what vLLM refuses in a config's vllm_args, or None; without vLLM, says so."""
    try:
        preflight.check_vllm_args(config)
    except preflight.PreflightError as error:
        return str(error)
    except ImportError:
        typer.echo("vllm_args were not checked: vLLM is not installed here", err=True)
    return None

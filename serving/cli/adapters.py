"""`mistral-serve adapters`: checks LoRA adapters, and adds them to a running service."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table
from typer.core import TyperGroup

from serving.adapters import declared
from serving.adapters.adapter import Version, checked
from serving.adapters.archive import fetch_archive
from serving.adapters.base import base_of
from serving.adapters.canary import Canary
from serving.adapters.config import AdapterConfig
from serving.adapters.files import AdapterError
from serving.adapters.fit import Base
from serving.adapters.source import Source as VersionSource
from serving.catalogue.memory import GIB
from serving.cli.client import BAD_OPTION, fail
from serving.cli.console import console
from serving.config import ConfigError, ModelConfig, load
from serving.section import explain
from serving.weights_claims import ClaimsError

_MIB = 1024**2


class _Reporting(TyperGroup):
    """Ends a command with the message of an adapter's error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (AdapterError, ClaimsError) as error:
            raise fail(str(error)) from None


adapters = typer.Typer(
    cls=_Reporting,
    help="Check LoRA adapters, and add them to a running service or remove them from it.",
    no_args_is_help=True,
)

Config = Annotated[
    Path,
    typer.Option("--config", help="The Serve config file of the service."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="The adapters' model, by a name; needed if several models take adapters."
    ),
]
Source = Annotated[
    str,
    typer.Argument(
        help="A folder, by its absolute path, a Hugging Face repository, or the URL of a tar "
        "archive."
    ),
]
Sha256 = Annotated[
    str | None, typer.Option("--sha256", help="The SHA-256 of the archive at the URL.")
]
Revision = Annotated[
    str | None, typer.Option("--revision", help="The commit of the repository to take.")
]
TrainedOn = Annotated[
    str | None,
    typer.Option("--base", help="The model's name in adapter_config.json, if it is another one."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="adapters_folder, if it has another path here than where routers run."
    ),
]


@adapters.command()
def check(
    source: Source,
    config: Config,
    model: Model = None,
    revision: Revision = None,
    sha256: Sha256 = None,
    base: TrainedOn = None,
) -> None:
    """Say whether an adapter can be served with the model, or all reasons why not."""
    of = model_with_adapters(config, model)
    wanted = _declaration("checked", source, revision, sha256, base=base)
    version = checked_version(wanted, base_of(of.entry), wanted)
    typer.echo(
        f"fits {of.entry.id}: {version.loaded_bytes / _MIB:.1f} MiB of main memory in each "
        f"process of an engine, content {version.digest}"
    )


@adapters.command()
def add(
    name: Annotated[str, typer.Argument(help="The model id by which requests ask for it.")],
    source: Source,
    config: Config,
    model: Model = None,
    revision: Revision = None,
    sha256: Sha256 = None,
    base: TrainedOn = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="The highest rank that it may have.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", help="A further model id for it.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", help="A tenant that may use it; all by default.")
    ] = None,
    folder: Folder = None,
) -> None:
    """Check an adapter and declare it in the model's folder, from which routers take it within two
    seconds."""
    of = model_with_adapters(config, model)
    wanted = _declaration(
        name,
        source,
        revision,
        sha256,
        base=base,
        rank=rank,
        aliases=tuple(alias or ()),
        tenants=tuple(tenant) if tenant else None,
    )
    if any(one.name == name for one in of.adapters):
        raise fail(f"{config} has an adapter {name} already: change it there", BAD_OPTION)
    if name in (of.entry.id, *of.entry.aliases):
        raise fail(f"{name} is a name of the model itself", BAD_OPTION)
    checked_version(wanted, base_of(of.entry), wanted)
    path = declared.write(folder_or_fail(of, folder), wanted)
    typer.echo(f"{name} is declared in {path}", err=True)


@adapters.command()
def remove(
    name: Annotated[str, typer.Argument(help="The adapter's name.")],
    config: Config,
    model: Model = None,
    folder: Folder = None,
) -> None:
    """Remove an adapter's file from the model's folder. Answers that have begun end as they are."""
    of = model_with_adapters(config, model)
    if any(one.name == name for one in of.adapters):
        raise fail(f"{name} is declared in {config}: remove it there", BAD_OPTION)
    try:
        path = declared.path_of(folder_or_fail(of, folder), name)
        path.unlink()
    except FileNotFoundError:
        raise fail(f"there is no adapter {name}", BAD_OPTION) from None
    except OSError as error:
        raise fail(f"{path} cannot be removed: {error.strerror}") from None
    typer.echo(f"{name} is no longer declared", err=True)


@adapters.command("list")
def list_adapters(config: Config, model: Model = None, folder: Folder = None) -> None:
    """List the declared adapters, each with its check, and the memory that they take together."""
    of = model_with_adapters(config, model)
    base = base_of(of.entry)
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for column in ("name", "source", "tenants", "MiB", "content", "state"):
        table.add_column(column, overflow="fold")
    total_bytes, refused = 0, False
    for origin, one in _declarations(of, folder):
        if isinstance(one, AdapterError):
            refused = True
            table.add_row(origin, "", "", "", "", str(one))
            continue
        tenants = "all" if one.tenants is None else ",".join(one.tenants)
        try:
            version = checked(one, base, one)
        except (AdapterError, ClaimsError) as error:
            refused = True
            table.add_row(one.name, one.source, tenants, "", "", str(error))
            continue
        total_bytes += version.loaded_bytes
        size = f"{version.loaded_bytes / _MIB:.1f}"
        state = "fits" if one.canary is None else f"fits; {_state(one.canary)}"
        table.add_row(one.name, one.source, tenants, size, version.digest[:12], state)
    console().print(table)
    lora = base.lora
    typer.echo(
        f"{total_bytes / GIB:.2f} GiB of {lora.host_cache_gib:g} GiB in each process of an engine "
        f"if all are loaded; {lora.max_loras} of rank {lora.max_lora_rank} run at a time, for "
        f"{lora.running_gib(base.network):.2f} GiB of the GPUs"
    )
    if refused:
        raise typer.Exit(1)


def _state(canary: Canary) -> str:
    if canary.withdrawn is not None:
        return f"canary {canary.source} withdrawn: {canary.withdrawn}"
    return f"canary {canary.source} with {canary.weight:.0%}"


def _declarations(
    of: ModelConfig, folder: Path | None
) -> list[tuple[str, AdapterConfig | AdapterError]]:
    found: list[tuple[str, AdapterConfig | AdapterError]] = [(one.name, one) for one in of.adapters]
    if of.adapters_folder is None:
        return found
    for path in declared.files_in(folder_or_fail(of, folder)):
        try:
            found.append((path.name, declared.read(path)))
        except AdapterError as error:
            found.append((path.name, error))
    return found


def model_with_adapters(config: Path, name: str | None) -> ModelConfig:
    """Returns the model of that name or, without one, the only one that takes adapters."""
    try:
        models = load(config).models
    except ConfigError as error:
        raise fail(str(error), BAD_OPTION) from None
    taking = [one for one in models if one.has_adapters]
    if name is not None:
        taking = [one for one in taking if name in (one.entry.id, *one.entry.aliases)]
    if len(taking) == 1:
        return taking[0]
    if taking:
        ids = ", ".join(one.entry.id for one in taking)
        raise fail(f"several models take adapters: choose one with --model ({ids})", BAD_OPTION)
    what = "no model takes adapters" if name is None else f"{name} takes no adapters"
    raise fail(f"{config}: {what}: set adapters_folder or adapters of a model", BAD_OPTION)


def folder_or_fail(of: ModelConfig, folder: Path | None) -> Path:
    if of.adapters_folder is None:
        raise fail(f"{of.entry.id} has no adapters_folder in the config: set one", BAD_OPTION)
    return Path(of.adapters_folder) if folder is None else folder


def checked_version(wanted: VersionSource, base: Base, declared: AdapterConfig) -> Version:
    """Checks a version, which is downloaded first if it is an archive that is not here yet. Raises
    AdapterError and ClaimsError."""
    if wanted.is_archive:
        fetch_archive(wanted.source, wanted.sha256 or "", partial(typer.echo, err=True))
    return checked(wanted, base, declared)


def _declaration(
    name: str, source: str, revision: str | None, sha256: str | None, **fields: Any
) -> AdapterConfig:
    fields |= {"name": name, "source": source, "revision": revision, "sha256": sha256}
    try:
        return AdapterConfig.model_validate(fields)
    except ValidationError as error:
        field, message = explain(error, AdapterConfig)[0]
        raise fail(f"{field}: {message}", BAD_OPTION) from None

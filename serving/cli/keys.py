"""`mistral-serve keys`: the API keys of tenants, in the file that routers read."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from serving.cli.client import BAD_OPTION, fail
from serving.cli.console import console
from serving.dispatch import PRIORITIES
from serving.tenants import DEFAULT, key_file
from serving.tenants.api_key import ApiKey, duration, new_key, rotated
from serving.tenants.key_file import KeyFileError

_ALL = "all"
_ALLOWED = {
    "tenant": "a tenant's name: up to 63 lower-case letters, digits, '.', '_' and '-', of which "
    "the first and the last are letters or digits",
    "models": "a list of names, as a,b",
    "endpoints": "a list of paths, as /v1/models,/v1/messages",
}
"""What options may be whose values only the key itself checks."""

keys = typer.Typer(
    help="Make, list, revoke and rotate tenants' API keys. The file has their hashes alone, and "
    "running routers follow its changes.",
    no_args_is_help=True,
)

File = Annotated[
    Path, typer.Option(help="The keys file.", envvar="MISTRAL_SERVE_KEYS_FILE", dir_okay=False)
]

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")]


def _duration(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@keys.command()
def create(
    tenant: Annotated[
        str, typer.Option(help="A name in router.tenants; without those there is `default`.")
    ] = DEFAULT.name,
    file: File = Path("keys.json"),
    expires: Annotated[
        timedelta | None,
        typer.Option(
            parser=_duration, metavar="DURATION", help="Lifetime, as 12h or 90d. Default: none."
        ),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="The only models it may use, as a,b. Default: all.")
    ] = None,
    endpoints: Annotated[
        str | None,
        typer.Option(help="The only paths it may use, as /v1/models,/v1/messages. Default: all."),
    ] = None,
    max_priority: Annotated[
        int | None,
        typer.Option(min=0, max=PRIORITIES - 1, help="Highest x-priority. Default: the tenant's."),
    ] = None,
) -> None:
    """Make a key and print it. It is kept nowhere: this is the only time that it is shown."""
    now = _now()
    properties = {
        "id": "0" * 8,
        "tenant": tenant,
        "sha256": "0" * 64,
        "created": now,
        "expires": None if expires is None else now + expires,
        "models": _listed(models),
        "endpoints": _listed(endpoints),
        "max_priority": max_priority,
    }
    try:
        wanted = msgspec.convert(properties, ApiKey)
    except msgspec.ValidationError as error:
        option = str(error).partition("$.")[2].partition("[")[0].rstrip("`")
        raise fail(f"--{option} must be {_ALLOWED[option]}", BAD_OPTION) from None
    made: list[tuple[str, ApiKey]] = []

    def add(known: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        made.append(new_key(wanted, {key.id for key in known}))
        return (*known, made[0][1])

    _change(file, add)
    _show(*made[0])


@keys.command("list")
def list_keys(file: File = Path("keys.json")) -> None:
    """List the keys by their ids, with what they allow."""
    try:
        known = key_file.read(file)
    except KeyFileError as error:
        raise fail(f"{file}: {error}") from None
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("id", "tenant", "created", "expires", "models", "endpoints", "max priority"):
        table.add_column(name, overflow="fold")
    for key in known:
        table.add_row(
            key.id,
            key.tenant,
            _time(key.created),
            _expiry(key.expires),
            ",".join(key.models or (_ALL,)),
            ",".join(key.endpoints or (_ALL,)),
            "the tenant's" if key.max_priority is None else str(key.max_priority),
        )
    console().print(table)


@keys.command()
def revoke(key_id: KeyId, file: File = Path("keys.json")) -> None:
    """Remove a key, so that it is refused as soon as routers have read the file."""

    def remove(known: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        found = _find(known, key_id, file)
        return tuple(key for key in known if key is not found)

    _change(file, remove)
    typer.echo(f"the key {key_id} is no longer in {file}", err=True)


@keys.command()
def rotate(
    key_id: KeyId,
    file: File = Path("keys.json"),
    grace: Annotated[
        timedelta,
        typer.Option(
            parser=_duration, metavar="DURATION", help="How long the old one still works."
        ),
    ] = "24h",  # type: ignore[assignment]  # typer parses defaults too
) -> None:
    """Make and print a key that may do what another one may, which then expires."""
    made: list[tuple[str, ApiKey]] = []

    def replace(known: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        old = _find(known, key_id, file)
        ending, successor = rotated(old, _now(), grace)
        made.append(new_key(successor, {key.id for key in known}))
        return (*(ending if key is old else key for key in known), made[0][1])

    old = _find(_change(file, replace), key_id, file)
    _show(*made[0])
    typer.echo(f"the key {key_id} expires {_expiry(old.expires)}", err=True)


def _change(
    file: Path, changed: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]
) -> tuple[ApiKey, ...]:
    try:
        return key_file.change(file, changed)
    except KeyFileError as error:
        raise fail(f"{file}: {error}") from None


def _find(known: tuple[ApiKey, ...], key_id: str, file: Path) -> ApiKey:
    for key in known:
        if key.id == key_id:
            return key
    raise fail(f"{file} has no key {key_id}; `mistral-serve keys list` shows them", BAD_OPTION)


def _show(key: str, kept: ApiKey) -> None:
    """Prints the key alone on stdout, so that it can be piped."""
    typer.echo(key)
    typer.echo(
        f"the key {kept.id} of the tenant {kept.tenant} expires {_expiry(kept.expires)}. "
        "It is not shown again.",
        err=True,
    )


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _expiry(expires: datetime | None) -> str:
    return "never" if expires is None else _time(expires)

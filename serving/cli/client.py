"""Helpers for the commands that talk to a running service."""

import contextlib
import os
from typing import Annotated

import httpx
import typer

DEFAULT_URL = "http://127.0.0.1:8000"

BAD_OPTION = 2

NOT_UNDERSTOOD = (ValueError, LookupError, TypeError, AttributeError)
"""The errors that reading a body raises if its form is not the service's."""


def fail(message: str, code: int = 1) -> typer.Exit:
    """Prints `mistral-serve: message` on stderr; the caller raises the returned exception."""
    typer.echo(f"mistral-serve: {message}", err=True)
    return typer.Exit(code)


def unreachable(url: str, error: httpx.HTTPError) -> typer.Exit:
    reason = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return fail(
            f"the certificate of {url} is not trusted here: {reason}. For an authority of your own "
            "set SSL_CERT_FILE to its certificate."
        )
    return fail(
        f"nothing answers at {url}: {reason}. Start a service with `make serve`, or pass its "
        "address with --url."
    )


def checked_url(url: str) -> str:
    with contextlib.suppress(httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as a lookup does
        port_fits = parsed.port is None or 0 < parsed.port < 2**16
        if parsed.scheme in ("http", "https") and parsed.host and port_fits:
            return url
    raise fail(f"--url must be an address such as {DEFAULT_URL}, not {url!r}", BAD_OPTION)


Url = Annotated[
    str,
    typer.Option(help="Address of the service.", envvar="MISTRAL_SERVE_URL", callback=checked_url),
]

ApiKeyEnv = Annotated[
    str | None, typer.Option(metavar="NAME", help="Environment variable with the API key.")
]


AdminKeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Environment variable with the admin key, if the service has one."
    ),
]


def key_from(variable: str | None, option: str = "--api-key-env") -> str | None:
    """Returns the key in the environment variable that the option names, if it names one."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise fail(f"the environment variable {variable} of {option} is not set", BAD_OPTION)
    if not (key.isascii() and key.isprintable()):
        raise fail(
            f"the environment variable {variable} of {option} holds no key: "
            "a header can only carry printable ASCII",
            BAD_OPTION,
        )
    return key


def bearer(key: str | None) -> dict[str, str]:
    """Returns the headers that carry the key."""
    return {} if key is None else {"authorization": f"Bearer {key}"}


def message_of(response: httpx.Response) -> str:
    """Returns the message of an error, or the beginning of a body in another form."""
    try:
        return str(response.json()["error"]["message"])
    except NOT_UNDERSTOOD:
        return response.text.strip()[:200]


def refused(response: httpx.Response, admin_key_env: str | None) -> typer.Exit:
    """Tells what a request for the operators' endpoints was answered in place of its result."""
    url, status = response.url, response.status_code
    if status in (401, 403) and admin_key_env is None:
        return fail(
            f"{url} requires the admin key of the service: name the environment variable that has "
            "it with --admin-key-env."
        )
    if status in (401, 403):
        return fail(f"{url} refuses the key in {admin_key_env}: it is not its admin key.")
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return fail(f"{url} answers {status}: {message_of(response)}")
    return fail(
        f"{url} answers {status}: --url must be the address of a mistral-serve service, without "
        "/v1."
    )

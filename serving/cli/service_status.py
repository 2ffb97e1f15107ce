"""Asks a running service how it is."""

import contextlib
from collections.abc import Iterator

import httpx
import msgspec

from serving.cli.client import fail, unreachable
from serving.router.telemetry.status import ServiceStatus

_decode = msgspec.json.Decoder(ServiceStatus).decode


@contextlib.contextmanager
def asking(url: str) -> Iterator[httpx.Client]:
    """A client for `service_status`. What goes wrong in the context ends the command."""
    try:
        with httpx.Client(base_url=url, timeout=5) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise fail(
            f"{error.request.url} answers {error.response.status_code}: --url must be the address "
            "of a service of mistral-serve, without /v1."
        ) from None
    except httpx.HTTPError:
        raise unreachable(url) from None
    except msgspec.DecodeError:
        raise fail(
            f"what answers at {url} is no service of mistral-serve. Say where one is with --url."
        ) from None


def service_status(client: httpx.Client) -> ServiceStatus:
    """Asks one router of the service for its status. Raises what `asking` handles."""
    return _decode(client.get("/-/status").raise_for_status().content)

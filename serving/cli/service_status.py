"""Gets the status of a running service."""

import contextlib
from collections.abc import Iterator

import httpx
import msgspec

from serving.cli.client import bearer, fail, key_from, refused, unreachable
from serving.router.telemetry.status import ServiceStatus

_decode = msgspec.json.Decoder(ServiceStatus).decode


@contextlib.contextmanager
def asking(url: str, admin_key_env: str | None) -> Iterator[httpx.Client]:
    """Yields a client for `service_status`; an error within the context ends the command."""
    headers = bearer(key_from(admin_key_env, "--admin-key-env"))
    try:
        with httpx.Client(base_url=url, timeout=5, headers=headers) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise refused(error.response, admin_key_env) from None
    except httpx.HTTPError as error:
        raise unreachable(url, error) from None
    except msgspec.DecodeError:
        raise fail(
            f"the server at {url} is not a mistral-serve service. Pass the address of one with "
            "--url."
        ) from None


def service_status(client: httpx.Client) -> ServiceStatus:
    """Returns the status from one router of the service. Raises what `asking` handles."""
    return _decode(client.get("/-/status").raise_for_status().content)

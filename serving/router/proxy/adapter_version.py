"""The version of an adapter that a request gets."""

from serving.adapters.adapter import Adapter
from serving.asgi import Headers, header
from serving.router.http.errors import ApiError

VERSION = b"x-adapter-version"
"""Request header: the version of the adapter that is to answer, `stable`, `canary` or a digest. Of
a response: the digest of the one that answers."""


def version_for(adapter: Adapter, headers: Headers, key: str) -> Adapter:
    """Returns the adapter in the version that a request asks for by a header or, without one, that
    its session, or the request itself, gets by the canary's weight. Raises ApiError."""
    if (value := header(headers, VERSION)) is None:
        return adapter.chosen_for(key)
    wanted = value.decode("latin-1")
    if wanted in ("stable", adapter.version.digest):
        return adapter
    if adapter.canary is not None and wanted in ("canary", adapter.canary.digest):
        return adapter.as_canary()
    raise ApiError(
        400,
        f"The model '{adapter.name}' has no version '{wanted[:64]}' now: /v1/models lists those "
        "that it has.",
        code="invalid_header",
        param=VERSION.decode(),
    )

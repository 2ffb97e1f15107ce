"""What an engine reads of a router's request beside its body, and how it sends answers in one
piece."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from serving.asgi import ClientGoneError, Headers, disconnected, send_response
from serving.engine.image_file import MediaError
from serving.engine_protocol import ADAPTER, CACHE_SALT, REWRITES
from serving.mistral import InvalidRequest, Normalised
from serving.requests.places import place_of

_NONE: Headers = []


def header(scope: Scope, wanted: bytes) -> bytes:
    """Returns the value of a header; empty without it."""
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def adapter_of(scope: Scope) -> str | None:
    """Returns the digest of the adapter that is to answer."""
    return header(scope, ADAPTER).decode("latin1") or None


def cache_salt_of(scope: Scope, own: str | None = None) -> str | None:
    """Returns the tenant's salt, of one length for all, and behind it the request's own."""
    return header(scope, CACHE_SALT).decode("latin1") + (own or "") or None


def request_id_of(scope: Scope) -> str:
    return header(scope, b"x-request-id").decode("latin1") or uuid.uuid4().hex


async def read_body(receive: Receive) -> bytes:
    """Raises ClientGoneError."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


@contextlib.contextmanager
def while_connected(receive: Receive) -> Iterator[None]:
    """Cancels what this task does within the context when the client of a request, whose body was
    read, goes away. Raises ClientGoneError then."""
    answering = asyncio.current_task()
    assert answering is not None
    watch = asyncio.create_task(_cancel_when_gone(receive, answering))
    try:
        yield
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            answering.uncancel()
            raise ClientGoneError from None
        raise
    finally:
        watch.cancel()


async def _cancel_when_gone(receive: Receive, answering: asyncio.Task[Any]) -> None:
    await disconnected(receive)
    answering.cancel()


@contextlib.contextmanager
def image_errors(body: bytes) -> Iterator[None]:
    """Raises InvalidRequest, with the place in that body, for an image that fails to load."""
    try:
        yield
    except MediaError as error:
        url = error.url
        # Anthropic's API has the type and the data of an image in two fields.
        data = url.rpartition(",")[2] if url.startswith("data:") else ""
        shown = tuple(filter(None, (url, data)))
        place = place_of(msgspec.json.decode(body), lambda value: value in shown) or ""
        if "]" not in place:  # it stands somewhere else as well
            raise
        end = place.rindex("]") + 1
        # Codex drops an image by such a name of its field, and this code.
        param = place[:end] + (".image_url" if ".image_url" in place[end:] else "")
        raise InvalidRequest(f"{place[:end]}: {error}", param) from error


def rewrite_headers(normalised: Normalised) -> Headers:
    """Returns the headers that tell what was changed in a request."""
    rewrites = normalised.rewrites
    return [*normalised.headers, (REWRITES, ",".join(rewrites).encode())] if rewrites else _NONE


async def send_whole(
    send: Send,
    status: int,
    body: bytes,
    headers: Headers = _NONE,
    content_type: bytes = b"application/json",
) -> None:
    own = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send_response(send, status, [*own, *headers], body)

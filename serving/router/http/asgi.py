"""The client side of a request: ASGI messages in and out."""

import asyncio
import re
import uuid

from starlette.types import Receive, Send

from serving.asgi import ClientGoneError, Headers, send_response
from serving.router.http import protocol_errors
from serving.router.http.body_budget import HeldBody
from serving.router.http.content_encoding import decompress
from serving.router.http.errors import ApiError, is_anthropics

_is_request_id = re.compile(rb"[!-~]{1,128}").fullmatch


async def read_body(headers: Headers, receive: Receive, limit_bytes: int, held: HeldBody) -> bytes:
    """Returns the whole request body, decompressed. Raises ApiError 413 as soon as it is known to
    exceed the limit, 503 if `held` can take no more, 415 or 400 if it cannot be decompressed, and
    ClientGoneError if the client disconnects while sending."""
    coding = b""
    for name, value in headers:
        if name == b"content-length" and int(value) > limit_bytes:
            raise protocol_errors.body_too_large(limit_bytes)
        if name == b"content-encoding":
            coding += value
    body = bytearray()  # not a list of pieces, which may take many times the bytes in them
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        if len(body) + len(piece) > limit_bytes:
            raise protocol_errors.body_too_large(limit_bytes)
        held.take(len(piece))
        if not message.get("more_body", False):
            break
        body += piece
    whole: bytes = b"".join((body, piece)) if body else piece
    if coding:
        whole = await asyncio.to_thread(decompress, whole, coding, limit_bytes)
        held.take(len(whole))
    return whole


async def send_error(
    send: Send, error: ApiError, path: str, request_id: str, headers: Headers
) -> None:
    """Sends `error` as the response to a request to `path`, with `headers` in addition to the
    error's own."""
    body = error.body(path, request_id)
    length = (b"content-length", b"%d" % len(body))
    ids = id_headers(request_id.encode(), is_anthropics(path))
    headers = [*error.headers, length, *ids, *headers]
    await send_response(send, error.status, headers, body)


def client_request_id(headers: Headers) -> bytes:
    """Returns the client's x-request-id if it is printable and at most 128 bytes long, else a new
    one."""
    for name, value in headers:
        if name == b"x-request-id" and _is_request_id(value):
            return value
    return uuid.uuid4().hex.encode()


def id_headers(request_id: bytes, for_anthropics: bool) -> Headers:
    """Returns the headers that name a request. Clients of Anthropic's API read only its own."""
    headers = [(b"x-request-id", request_id)]
    if for_anthropics:
        headers.append((b"request-id", request_id))
    return headers

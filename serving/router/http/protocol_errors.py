"""Errors of requests that are no HTTP of ours, or too large or slow."""

import re

from serving.router.http.errors import ApiError

_MISPLACED = re.compile(
    r"(?:.*?/)?(chat/completions|completions|responses|messages(?:/count_tokens)?|models|files"
    r"|(?<!messages/)batches|tokenize|detokenize)/?"
)
"""A path that ends as one of this service's does: without /v1, with two of them, or behind what
other services have in its place."""


def body_too_large(limit_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The request body exceeds this service's limit of {limit_bytes} bytes.",
        code="request_too_large",
    )


def too_many_bodies() -> ApiError:
    return ApiError(
        503,
        "The bodies of the requests that this router reads and answers now are too large together. "
        "Try again in 1 s.",
        code="too_many_bodies",
        retry_after_s=1,
    )


def not_http() -> ApiError:
    return ApiError(400, "This is not a valid request in HTTP/1.1.", code="invalid_http")


def unknown_transfer_encoding() -> ApiError:
    message = "The only transfer-encoding that this service reads is chunked, in HTTP/1.1."
    return ApiError(501, message, code="unsupported_transfer_encoding")


def too_many_pipelined(limit: int) -> ApiError:
    message = f"More than {limit} requests wait for the answers before them on this connection."
    return ApiError(400, message, code="too_many_pipelined")


def request_timeout() -> ApiError:
    message = "The request did not arrive in time. Send it again, or over a faster connection."
    return ApiError(408, message, code="request_timeout")


def url_too_long(limit_bytes: int) -> ApiError:
    message = f"The request's URL exceeds this service's limit of {limit_bytes} bytes."
    return ApiError(414, message, code="url_too_long")


def head_too_large(limit_bytes: int) -> ApiError:
    message = f"The request's headers exceed this service's limit of {limit_bytes} bytes together."
    return ApiError(431, message, code="headers_too_large")


def unsupported_content_encoding(coding: str) -> ApiError:
    return ApiError(
        415,
        f"The content-encoding '{coding[:40]}' is not supported. Send the body as it is, or with "
        "one of gzip, deflate and zstd.",
        code="unsupported_content_encoding",
    )


def damaged_body(coding: str) -> ApiError:
    return ApiError(
        400,
        f"The request body cannot be decompressed: it is not valid {coding[:40]}.",
        code="invalid_content_encoding",
    )


def not_found(method: str, path: str) -> ApiError:
    message = f"This service has no endpoint {method} {path[:200]}."
    if meant := _MISPLACED.fullmatch(path):
        name = meant[1]
        place = f"/{name}" if name.endswith("tokenize") else f"/v1/{name}"
        message += f" Use {place}: check the client's base URL."
    return ApiError(404, message, code="not_found")


def method_not_allowed(method: str, path: str, allow: str) -> ApiError:
    return ApiError(
        405,
        f"{method} is not allowed on {path[:200]}; use {allow}.",
        code="method_not_allowed",
        allow=allow,
    )

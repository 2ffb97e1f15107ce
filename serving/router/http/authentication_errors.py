"""Errors of requests whose caller is unknown or may not do this."""

from serving.router.http.errors import ApiError

TOO_MANY_FAILURES = "too_many_failures"
"""Code of the error of a request without a valid key, from an address that sent many such."""


def model_not_allowed(model: str) -> ApiError:
    return ApiError(
        403,
        f"This API key may not use the model '{model[:200]}'. Those that it may are in /v1/models.",
        code="model_not_allowed",
        param="model",
    )


def endpoint_not_allowed(path: str) -> ApiError:
    return ApiError(
        403,
        f"This API key may not use {path[:200]}.",
        code="endpoint_not_allowed",
    )


def unknown_tenant(message: str) -> ApiError:
    return ApiError(403, message, code="unknown_tenant")


def admin_key_required() -> ApiError:
    return ApiError(
        403,
        "This path requires the admin key of the service, not a tenant's.",
        code="admin_key_required",
    )


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(401, message, code=code)


def missing_api_key() -> ApiError:
    message = "This service requires an API key. Send it as `Authorization: Bearer KEY`."
    return _unauthorized(message, "missing_api_key")


def invalid_api_key() -> ApiError:
    return _unauthorized("The API key is not known here, or no longer.", "invalid_api_key")


def api_key_expired() -> ApiError:
    return _unauthorized("The API key has expired. Ask for another one.", "api_key_expired")


def invalid_token(why: str) -> ApiError:
    return _unauthorized(f"The token {why}.", "invalid_token")


def issuer_unavailable() -> ApiError:
    return ApiError(
        503,
        "Tokens cannot be verified now, as their issuer does not answer. Try again soon.",
        code="issuer_unavailable",
        retry_after_s=5,
    )


def too_many_failures(retry_after_s: int) -> ApiError:
    return ApiError(
        429,
        "The API key or token is missing or wrong, and so were many from this address. Correct it; "
        f"the next is checked in {retry_after_s} s, a valid one at once.",
        code=TOO_MANY_FAILURES,
        retry_after_s=retry_after_s,
    )

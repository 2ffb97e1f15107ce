"""The errors of stored responses."""

from serving.router.http.errors import ApiError, invalid_value

_STORE_RETRY_S = 5


def previous_not_found(response_id: str) -> ApiError:
    return ApiError(
        404,
        f"Previous response with id '{response_id[:200]}' not found: it was not stored, was "
        "deleted or has expired. Send the earlier turns in input.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def chain_broken(response_id: str) -> ApiError:
    return ApiError(
        404,
        f"A response that '{response_id[:200]}' continues was deleted or has expired. Send the "
        "earlier turns in input.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def not_continuable(response_id: str, status: str) -> ApiError:
    return invalid_value(
        "previous_response_id",
        f"The response '{response_id[:200]}' is {status}: only completed and incomplete responses "
        "can be continued.",
    )


def item_not_found(item_id: str) -> ApiError:
    return ApiError(
        404,
        f"input refers to the item '{item_id[:200]}', which is not found: its response was not "
        "stored, was deleted or has expired. Send the item itself.",
        code="item_not_found",
        param="input",
    )


def items_too_large(max_bytes: int) -> ApiError:
    return invalid_value(
        "input",
        f"The input with the items that it refers to exceeds this service's limit of {max_bytes} "
        "bytes. Send a summary of the earlier turns in input.",
    )


def history_too_long(max_items: int, max_bytes: int) -> ApiError:
    return invalid_value(
        "previous_response_id",
        "The input with the history of previous_response_id exceeds this service's limits of "
        f"{max_items} items and {max_bytes} bytes. Send a summary of the earlier turns in input.",
    )


def wrong_type(field: str, what: str) -> ApiError:
    return ApiError(400, f"{field} must be {what}.", code="invalid_type", param=field)


def nothing_stored(field: str, advice: str) -> ApiError:
    return ApiError(
        400,
        f"{field} is not supported: this service stores no responses: {advice}.",
        code="unsupported_parameter",
        param=field,
    )


def background_needs_store() -> ApiError:
    return invalid_value(
        "background", "background needs store: without it, the response could not be retrieved."
    )


def not_streamed(response_id: str) -> ApiError:
    return invalid_value(
        "stream",
        f"The response '{response_id[:200]}' has no events: only one that was created with "
        "background and stream can be streamed. Leave out stream.",
    )


def background_too_large(limit_bytes: int) -> ApiError:
    return ApiError(
        400,
        f"This request exceeds the {limit_bytes} bytes that this service stores of a response, "
        "which background needs.",
        code="request_too_large",
        param="background",
    )


def not_found(response_id: str) -> ApiError:
    return ApiError(
        404,
        f"Response with id '{response_id[:200]}' not found.",
        code="response_not_found",
    )


def not_compacted() -> ApiError:
    return ApiError(
        404,
        "This service does not compact responses. Send a summary of the earlier turns in input, or "
        'truncation "auto".',
        code="not_found",
    )


def not_in_background(response_id: str) -> ApiError:
    return invalid_value(
        None,
        f"The response '{response_id[:200]}' does not run in the background: only those that do "
        "can be cancelled.",
    )


def store_failed() -> ApiError:
    return ApiError(
        503,
        "Stored responses cannot be read or written now. Send the earlier turns in input, or try "
        "again later.",
        code="response_store_failed",
        retry_after_s=_STORE_RETRY_S,
    )

"""The errors of files and batches."""

from serving.router.http.errors import ApiError, invalid_value

_STORE_RETRY_S = 5


def file_not_found(file_id: str) -> ApiError:
    return ApiError(
        404,
        f"No such file: '{file_id[:100]}'. It was never here, was deleted or has expired.",
        code="file_not_found",
        param="id",
    )


def input_not_found(file_id: str) -> ApiError:
    return ApiError(
        400,
        f"No such file: '{file_id[:100]}'. Upload one to /v1/files with the purpose batch.",
        code="file_not_found",
        param="input_file_id",
    )


def input_is_output(file_id: str) -> ApiError:
    return invalid_value(
        "input_file_id",
        f"The file '{file_id[:100]}' has the purpose batch_output; allowed is one with the purpose "
        "batch.",
    )


def batch_not_found(batch_id: str) -> ApiError:
    return ApiError(
        404,
        f"No such batch: '{batch_id[:100]}'. It was never here or has expired.",
        code="batch_not_found",
        param="batch_id",
    )


def batch_has_ended(batch_id: str, status: str) -> ApiError:
    return ApiError(
        409,
        f"The batch '{batch_id[:100]}' is {status}: only one that has not ended can be cancelled.",
        code="batch_has_ended",
    )


def missing(field: str) -> ApiError:
    return ApiError(400, f"{field} is required.", code="missing_required_parameter", param=field)


def not_a_form(why: str) -> ApiError:
    return ApiError(
        400,
        f"The body must be multipart/form-data with the fields purpose and file: {why}.",
        code="invalid_form",
    )


def file_too_large(limit_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The file exceeds this service's limit of {limit_bytes} bytes. Split it into several.",
        code="file_too_large",
        param="file",
    )


def no_room(share_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The files of this tenant would exceed the {share_bytes} bytes that it may store. Delete "
        "files that are no longer needed.",
        code="storage_limit_exceeded",
        param="file",
    )


def store_failed() -> ApiError:
    return ApiError(
        503,
        "Files and batches cannot be read or written now. Try again later.",
        code="batch_store_failed",
        retry_after_s=_STORE_RETRY_S,
    )

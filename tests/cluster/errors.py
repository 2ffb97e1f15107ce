"""What the server refuses, as the `Status` objects that clients read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Cause:
    """What is wrong with one field; `reason` is Kubernetes' name for the sort of error."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def invalid_value(field: str, value: object, why: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {_go(value)}: {why}")


def required(field: str, why: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", "Required value" + (f": {why}" if why else ""))


def absent(field: str, value: object) -> Cause:
    return Cause(field, "FieldValueNotFound", f"Not found: {_go(value)}")


def duplicate(field: str, value: object) -> Cause:
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {_go(value)}")


def _go(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


class ApiError(Exception):
    """Answered as a `Status` with this HTTP status code."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def as_status(self) -> Object:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def _named(group: str, plural: str, name: str) -> tuple[str, Object]:
    resource = f"{plural}.{group}" if group else plural
    what = f'{resource} "{name}"' if name else resource
    return what, {"name": name, "group": group, "kind": plural}


def not_found(group: str, plural: str, name: str) -> ApiError:
    what, details = _named(group, plural, name)
    return ApiError(404, "NotFound", f"{what} not found", details)


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(group: str, plural: str, name: str) -> ApiError:
    what, details = _named(group, plural, name)
    return ApiError(409, "AlreadyExists", f"{what} already exists", details)


def conflict(group: str, plural: str, name: str) -> ApiError:
    what, details = _named(group, plural, name)
    return ApiError(
        409,
        "Conflict",
        f"Operation cannot be fulfilled on {what}: the object has been modified; "
        "please apply your changes to the latest version and try again",
        details,
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(group: str, plural: str, name: str, why: str) -> ApiError:
    what, details = _named(group, plural, name)
    return ApiError(403, "Forbidden", f"{what} is forbidden: {why}", details)


def gone(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    what = f"{kind}.{group}" if group else kind
    said = str(causes[0]) if len(causes) == 1 else f"[{', '.join(map(str, causes))}]"
    details = {
        "name": name,
        "group": group,
        "kind": kind,
        "causes": [
            {"reason": cause.reason, "message": cause.message, "field": cause.field}
            for cause in causes
        ],
    }
    return ApiError(422, "Invalid", f'{what} "{name}" is invalid: {said}', details)

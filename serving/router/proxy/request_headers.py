"""Reads a request's priority and its client's timeout from the headers."""

from collections.abc import Iterable

from serving.dispatch import DEFAULT_PRIORITY, PRIORITIES

_CLIENTS_TIMEOUTS = frozenset((b"x-stainless-read-timeout", b"x-stainless-timeout"))
"""Headers in which the OpenAI and Anthropic clients send their read timeout, in seconds."""


class InvalidHeaderError(ValueError):
    """A header that the client set deliberately has an invalid value; the message says what is
    allowed."""

    def __init__(self, header: str, message: str) -> None:
        super().__init__(message)
        self.header = header


def priority_and_timeout_s(
    headers: Iterable[tuple[bytes, bytes]],
    default_priority: int = DEFAULT_PRIORITY,
    highest_priority: int = PRIORITIES - 1,
) -> tuple[int, float | None]:
    """Returns the priority from `x-priority`, capped at `highest_priority`, and the client's
    timeout: the smaller of `x-request-timeout` and what its library sends. Raises
    InvalidHeaderError."""
    priority = default_priority
    timeout_s = None
    for name, value in headers:
        if name == b"x-priority":
            if not (len(value) == 1 and value.isdigit()):
                raise InvalidHeaderError(
                    "x-priority", f"x-priority must be a whole number from 0 to {PRIORITIES - 1}."
                )
            priority = int(value)
        elif name == b"x-request-timeout" or name in _CLIENTS_TIMEOUTS:
            seconds = _seconds(value)
            if seconds is not None:
                timeout_s = seconds if timeout_s is None else min(timeout_s, seconds)
            elif name == b"x-request-timeout":
                raise InvalidHeaderError(
                    "x-request-timeout", "x-request-timeout must be a number of seconds above 0."
                )
    return min(priority, highest_priority), timeout_s


def _seconds(value: bytes) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None

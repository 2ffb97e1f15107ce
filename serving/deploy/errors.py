"""What goes wrong between an operator and a cluster, in words, with the command's exit code."""

import json
from typing import Any

NOT_SO = 1
"""What was asked for is not so, or did not come to be."""
BAD_INPUT = 2
UNREACHABLE = 3
DENIED = 4


class DeployError(Exception):
    """The message says what is wrong and what to do."""

    exit_code = NOT_SO


class BadInput(DeployError):
    """Manifests or options that cannot be used."""

    exit_code = BAD_INPUT


class Unreachable(DeployError):
    """There is no cluster to talk to."""

    exit_code = UNREACHABLE


class Denied(DeployError):
    """The cluster does not let this user do it."""

    exit_code = DENIED


class UnknownKind(DeployError):
    """The cluster has no such kind of object."""


class Conflict(DeployError):
    """The object changed meanwhile, or a disruption budget stands against an eviction."""


class ServerTrouble(DeployError):
    """The API server is there and cannot answer now: worth another try."""


def refusal(status: int, body: bytes, what: str) -> DeployError:
    """The error for an answer of the API server; `what` was asked, as "patch pods"."""
    message = _message(body) or f"HTTP {status}"
    match status:
        case 401:
            return Unreachable(
                "the cluster does not take your credentials: log in again, as the cluster's "
                "provider says (`kubectl auth whoami` tells when it works)"
            )
        case 403 if "exceeded quota" in message:
            return DeployError(f"could not {what}: {message}")
        case 403:
            return Denied(
                f"you may not {what}: {message}\n"
                "Ask the cluster's administrators for that right; `mistral-serve deploy preflight` "
                "lists all that are needed and the commands that give them."
            )
        case 409 | 429 if status == 409 or "disruption budget" in message:
            return Conflict(f"could not {what}: {message}")
        case 429 | 500 | 502 | 503 | 504:
            return ServerTrouble(f"could not {what}: the API server says {status}: {message}")
    return DeployError(f"could not {what}: {message}")


def _message(body: bytes) -> str:
    """Of a `Status` object, with what its causes add."""
    try:
        status: Any = json.loads(body)
        message = str(status["message"])
        causes = (status.get("details") or {}).get("causes") or ()
        more = [str(cause["message"]) for cause in causes if cause.get("message")]
    except (ValueError, LookupError, TypeError, AttributeError):
        return body.decode(errors="replace").strip()[:300]
    return "; ".join([message, *(text for text in more if text not in message)])

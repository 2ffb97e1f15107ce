"""Errors of the deploy commands, each with the command's exit code."""

import json
import re
from typing import Any

_ANONYMOUS = '"system:anonymous"'
"""The user that a server takes one without credentials for."""
_TERMINATING = re.compile(r"in namespace (\S+) because it is being terminated")


class DeployError(Exception):
    """The message says what is wrong and what to do."""

    exit_code = 1
    """The state that was asked for is not there, or was not reached."""


class BadInput(DeployError):
    """Manifests or options that cannot be used."""

    exit_code = 2


class Unreachable(DeployError):
    """No cluster answers."""

    exit_code = 3


class Denied(DeployError):
    """This user lacks the permission."""

    exit_code = 4


class NotFound(DeployError):
    """The cluster has no such object."""


class UnknownKind(NotFound):
    """The cluster has no such kind of object."""


class Conflict(DeployError):
    """The object has changed meanwhile, or a disruption budget forbids an eviction."""


class Terminating(DeployError):
    """The namespace is being deleted, and takes no new objects."""

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"the namespace {namespace} is being deleted and takes no new objects: wait until it "
            f"is gone (kubectl wait --for=delete namespace/{namespace} --timeout=30m); "
            "`mistral-serve deploy delete` ends a deletion that hangs"
        )


class ServerTrouble(DeployError):
    """The API server is up and cannot answer now: worth another try."""


def refusal(status: int, body: bytes, what: str) -> DeployError:
    """The error for an answer of the API server to a request such as `what`, "patch pods"."""
    message = _message(body) or f"HTTP {status}"
    match status:
        case 401 | 403 if status == 401 or _ANONYMOUS in message:
            return Unreachable(
                "the cluster rejects your credentials: log in again as the cluster's provider "
                "says; `kubectl auth whoami` shows whether it worked"
            )
        case 403 if found := _TERMINATING.search(message):
            return Terminating(found[1])
        case 403 if "exceeded quota" in message:
            return DeployError(f"could not {what}: {message}")
        case 403:
            return Denied(
                f"you lack the permission to {what}: {message}\n"
                "Ask the cluster's administrators for it; `mistral-serve deploy preflight` lists "
                "all that are needed and the commands that grant them."
            )
        case 404:
            return NotFound(f"could not {what}: {message}")
        case 409 | 429 if status == 409 or "disruption budget" in message:
            return Conflict(f"could not {what}: {message}")
        case 429 | 500 | 502 | 503 | 504:
            return ServerTrouble(f"could not {what}: the API server says {status}: {message}")
    return DeployError(f"could not {what}: {message}")


def _message(body: bytes) -> str:
    """The message of a `Status` object, with those of its causes."""
    try:
        status: Any = json.loads(body)
        message = str(status["message"])
        causes = (status.get("details") or {}).get("causes") or ()
        more = [str(cause["message"]) for cause in causes if cause.get("message")]
    except (ValueError, LookupError, TypeError, AttributeError):
        return body.decode(errors="replace").strip()[:300]
    return "; ".join([message, *(text for text in more if text not in message)])

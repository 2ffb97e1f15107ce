"""What a check before a deployment found."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    ok = "ok"
    caution = "caution"
    """It may do harm, later or in some cases."""
    unknown = "unknown"
    """This user may not see it."""
    missing = "missing"
    """The service does not come up as long as it is so."""


@dataclass(frozen=True)
class Finding:
    """`mend`: what to run or edit, a line each."""

    subject: str
    state: State
    message: str
    mend: tuple[str, ...] = ()


def ok(subject: str, message: str) -> Finding:
    return Finding(subject, State.ok, message)


def missing(subject: str, message: str, *mend: str) -> Finding:
    return Finding(subject, State.missing, message, mend)


def caution(subject: str, message: str, *mend: str) -> Finding:
    return Finding(subject, State.caution, message, mend)


def unknown(subject: str, what: str, command: str) -> Finding:
    return Finding(subject, State.unknown, f"you may not {what}: not checked", (command,))

"""Findings of the checks before a deployment."""

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
    broken = "broken"
    """A manifest breaks a rule of `mistral-serve deploy lint`."""


@dataclass(frozen=True)
class Finding:
    """The result of one check; each line of `fix` is a command to run or an edit to make. `rule`
    names the rule that a manifest breaks.
    """

    subject: str
    state: State
    message: str
    fix: tuple[str, ...] = ()
    rule: str = ""


def ok(subject: str, message: str) -> Finding:
    return Finding(subject, State.ok, message)


def missing(subject: str, message: str, *fix: str) -> Finding:
    return Finding(subject, State.missing, message, fix)


def caution(subject: str, message: str, *fix: str) -> Finding:
    return Finding(subject, State.caution, message, fix)


def unknown(subject: str, what: str, command: str) -> Finding:
    return Finding(
        subject, State.unknown, f"you lack the permission to {what}: not checked", (command,)
    )

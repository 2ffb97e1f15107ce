"""Findings of the rules."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A rule that a manifest breaks.

    `rule` is the file of the rule and its name there, such as kuberay/group-name. `subject` is the
    object as kubectl names it, with the pod or container if it is about one. `fix` is what to do.
    """

    rule: str
    subject: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}; {self.fix} [{self.rule}]"


Report = Callable[[str, str, str], Finding]
"""Makes a finding of a rule's name, a message and how to fix it."""


def report_on(subject: str, kind: str) -> Report:
    """A maker of findings about one subject, by the rules of one file."""
    return lambda rule, message, fix: Finding(f"{kind}/{rule}", subject, message, fix)

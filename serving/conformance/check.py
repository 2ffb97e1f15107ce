"""The type of a check, and the decorator with which files of checks declare theirs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .needs import Need
from .server import Server

LIMIT_S = 60.0

Run = Callable[[Server], Awaitable[None]]


@dataclass(frozen=True)
class Check:
    """A check of a server. `run` raises CheckFailed, or any exception that an answer of the wrong
    shape causes."""

    theme: str
    name: str
    meaning: str
    run: Run
    needs: tuple[Need, ...] = ()
    limit_s: float = LIMIT_S


class Theme:
    """The checks of one file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def check(self, *needs: Need, limit_s: float = LIMIT_S) -> Callable[[Run], Run]:
        """Decorates a check, which gets its name from the function and its meaning from the
        docstring."""

        def add(function: Run) -> Run:
            name = function.__name__.replace("_", " ")
            meaning = " ".join((function.__doc__ or "").split())
            self.checks.append(Check(self.name, name, meaning, function, needs, limit_s))
            return function

        return add

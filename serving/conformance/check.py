"""What a check is, and how files of checks are written."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .needs import Need
from .server import Server

LIMIT_S = 60.0

Run = Callable[[Server], Awaitable[None]]


@dataclass(frozen=True)
class Check:
    """`run` raises CheckFailed, or whatever an answer of the wrong shape makes it raise."""

    theme: str
    name: str
    meaning: str
    run: Run
    needs: tuple[Need, ...] = ()
    limit_s: float = LIMIT_S


class Theme:
    """Collects the checks of a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def check(self, *needs: Need, limit_s: float = LIMIT_S) -> Callable[[Run], Run]:
        """Decorates a check, which is named after its function."""

        def add(function: Run) -> Run:
            name = function.__name__.replace("_", " ")
            meaning = " ".join((function.__doc__ or "").split())
            self.checks.append(Check(self.name, name, meaning, function, needs, limit_s))
            return function

        return add

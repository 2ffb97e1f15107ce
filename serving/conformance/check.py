"""What a check is, and the words that checks are written in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import Server

LIMIT_S = 60.0


class CheckFailed(Exception):
    """The server did something that a client cannot live with; the message says what."""


def expect(condition: object, otherwise: str) -> None:
    """Fails the check with `otherwise` unless `condition` is true."""
    if not condition:
        raise CheckFailed(otherwise)


Run = Callable[["Server"], Awaitable[None]]
Need = Callable[["Server"], str | None]
"""Why a check does not apply to a server, or None if it does."""


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


def vision(server: "Server") -> str | None:
    return None if server.model.family.vision else "the model sees no images"


def text_only(server: "Server") -> str | None:
    return "the model sees images" if server.model.family.vision else None


def reasoning(server: "Server") -> str | None:
    return None if server.model.family.reasoning else "the model does not reason"


def tiny(server: "Server") -> str | None:
    return None if server.model.tiny else "only an embedded model's answer is known"


def real(server: "Server") -> str | None:
    return "needs the public web" if server.model.tiny else None


def api_key(server: "Server") -> str | None:
    return None if server.api_key else "no API key was given"


def no_api_key(server: "Server") -> str | None:
    return "an API key was given" if server.api_key else None


def tokenizer(server: "Server") -> str | None:
    return None if server.tokenizer else "no tokenizer was given (--tokenizer)"

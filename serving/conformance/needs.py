"""What a server must have for a check to apply to it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import Server

Need = Callable[["Server"], str | None]
"""Returns the reason why a check does not apply to a server, or None if it does."""


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

"""Which model is asked, and so what its card promises."""

from dataclasses import dataclass
from typing import Any


class UnknownFamily(ValueError):
    """The name of a model does not tell which card it follows."""


@dataclass(frozen=True)
class Family:
    """What the card of a model says. `sampling` is what the card's own client sends."""

    name: str
    vision: bool
    reasoning: bool
    sampling: dict[str, Any]


FAMILIES = {
    "3.2": Family("3.2", True, False, {"temperature": 0.15, "max_tokens": 131072}),
    "2501": Family("2501", False, False, {"temperature": 0.15}),
    "magistral": Family(
        "magistral", False, True, {"temperature": 0.7, "top_p": 0.95, "max_tokens": 40960}
    ),
}
_IN_NAME = {"magistral": "magistral", "2501": "2501", "3.2": "3.2", "2506": "3.2"}


@dataclass(frozen=True)
class Model:
    """A served model. With `tiny` it is this project's embedded one, whose answers are known."""

    id: str
    family: Family
    context_tokens: int
    tiny: bool


def family_of(model_id: str) -> Family:
    """The family that a model's name tells. Raises UnknownFamily."""
    for part, family in _IN_NAME.items():
        if part in model_id.lower():
            return FAMILIES[family]
    raise UnknownFamily(model_id)

"""The model under test, and the model card that it follows."""

from dataclasses import dataclass
from typing import Any


class UnknownFamily(ValueError):
    """The model's name does not say which card it follows."""


@dataclass(frozen=True)
class Family:
    """The promises of a model card. `sampling` is what the card's own client sends."""

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
    """A served model. `tiny` marks this project's embedded model, whose answers are known."""

    id: str
    family: Family
    context_tokens: int
    tiny: bool


def family_of(model_id: str) -> Family:
    """The family of a model, by its name. Raises UnknownFamily."""
    for part, family in _IN_NAME.items():
        if part in model_id.lower():
            return FAMILIES[family]
    raise UnknownFamily(model_id)
